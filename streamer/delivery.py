"""What the daemon asks of a Kafka client: few verbs, so that clients can be exchanged and tests need no broker."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streamer.core.events import Headers, Partition, Records
from streamer.errors import StreamerError


class DeliveryError(StreamerError):
    """Kafka refuses output, offsets or this member, or has not taken them in time.

    Nothing of the commit at hand counts. The process stops with a code other than 0; its successor begins at the
    last commit.
    """


@dataclass(frozen=True, slots=True)
class Messages:
    """Records to publish to one partition of one topic, as columns of one length; headers None: none."""

    partition: Partition
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers] | None = None


@dataclass(frozen=True, slots=True)
class Rebalance:
    """Partitions that came and went since the last time it was asked."""

    assigned: Collection[Partition]
    revoked: Collection[Partition]


class KafkaClient(Protocol):
    """A member of the consumer group with a producer of its own."""

    def start(self, on_revoke: Callable[[], None]) -> None:
        """Check the topics and join the group. `on_revoke` runs before partitions are given away.

        Raises ConfigError for an unreachable broker or a topic that does not exist.
        """
        ...

    def poll(self, timeout_seconds: float, max_records: int) -> list[Records]:
        """Records of the assigned partitions, at most one `Records` for each; empty when none came in time."""
        ...

    def rebalance(self) -> Rebalance | None:
        """What changed in the assignment since the last call, if anything did."""
        ...

    def commit(self, output: Sequence[Messages], offsets: Mapping[Partition, int]) -> None:
        """Make output durable, then the input offsets (of the next record to read)."""
        ...

    def lag(self) -> Mapping[Partition, int]:
        """Records between each assigned partition's position and its end, as last seen."""
        ...

    def close(self) -> None:
        """Leave the group and close every connection."""
        ...
