"""What the state commands ask of Kafka beyond reading: the group from outside, without joining it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from streamer.core.events import Partition, Records
from streamer.delivery import LogReader, Position
from streamer.reading import patiently, read_up_to

READ_SECONDS = 300.0  # a changelog partition of some million snapshots; beyond, something is wrong


class GroupState(Protocol):
    """The consumer group as its operator sees it. Every method raises ConfigError where Kafka refuses."""

    def members(self) -> Sequence[str]:
        """Who is in the group now, as one would look for them."""
        ...

    def partitions(self, topics: Sequence[str]) -> Mapping[str, int]:
        """The number of partitions of each topic; 0 where it does not exist."""
        ...

    def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Position | None]:
        """The committed positions, once no pending transaction can change them; None for none."""
        ...

    def forget(self, tombstones: Mapping[Partition, Sequence[bytes]], positions: Mapping[Partition, Position]) -> None:
        """Write a tombstone for each key, then commit the positions: in transactions, the positions with the last.

        Raises DeliveryError when it does not come to an end; what is done then can be done again.
        """
        ...


def read_all(reader: LogReader, partition: Partition, seconds: float = READ_SECONDS) -> Iterator[Records]:
    """Every committed record of a partition up to its end, open transactions waited for. Raises NotNowError."""
    deadline = time.monotonic() + seconds
    begin = patiently(lambda: reader.begin(partition), deadline)
    end = patiently(lambda: reader.end(partition), deadline)
    yield from read_up_to(reader, partition, range(begin, end), deadline)
