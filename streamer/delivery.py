"""What the daemon asks of Kafka: few verbs, so that clients can be exchanged and tests need no broker.

Exactly once: output, snapshots and the input's positions are one transaction. What a client says of a transaction
is one of four things, and what to do about each is decided in one place, `streamer.committer`.

    committed             it returns
    AbortedError          certainly not committed: the same bytes may go again
    NotAMemberError       its positions were not sent, since the group's generation is not ours: poll, then again
    OutcomeUnknownError   it may or may not be committed: a new producer, then the committed positions tell
    FencedError           another process has our name: nothing more may be sent, the process ends
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streamer.core.events import Headers, Partition, Records
from streamer.errors import StreamerError


class DeliveryError(StreamerError):
    """Kafka refuses output, positions or this member, or has not taken them in time; the process ends."""


class FencedError(DeliveryError):
    """A successor has this process's transactional id or its place in the group; it must not produce any more."""


class AbortedError(StreamerError):
    """The transaction is aborted and its producer is fit for another."""


class NotAMemberError(StreamerError):
    """Positions were not sent: the member has no generation, or not the group's. The transaction is aborted."""


class OutcomeUnknownError(StreamerError):
    """Nobody knows what became of the transaction, and its producer must not be used again."""


class NotNowError(StreamerError):
    """Brokers did not answer in time, or ask to come back later."""


@dataclass(frozen=True, slots=True)
class Position:
    """A committed position: the offset of the next record to read, and what we noted with it."""

    offset: int
    metadata: str


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
    """A member of the consumer group with a transactional producer of its own.

    One thread at a time uses it, but `committed` and `starting_offset` may be asked beside it, on another thread;
    `on_revoke` may run on another while `poll` waits for it. Every wait has a limit.
    """

    def start(self, on_revoke: Callable[[], None]) -> None:
        """Check the topics, shut out a predecessor of the same transactional id, and join the group.

        Raises ConfigError for an unreachable broker, or a topic that does not exist or has too few partitions.
        """
        ...

    def poll(self, timeout_seconds: float, max_records: int) -> list[Records]:
        """Records of the partitions that were resumed and are still ours, at most one `Records` for each.

        Empty when none came in time. Also lets the group rebalance. Raises FencedError.
        """
        ...

    def hold(self, timeout_seconds: float) -> None:
        """Poll without taking records: only to let the group rebalance while a transaction waits."""
        ...

    def rebalance(self) -> Rebalance | None:
        """What changed in the assignment since the last call, if anything did. What came is paused."""
        ...

    def is_member(self) -> bool:
        """Whether the group has taken this member in, as far as its library knows; it may have given it nothing."""
        ...

    def resume(self, partition: Partition, offset: int) -> None:
        """Deliver this partition's records from the offset on."""
        ...

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Position | None]:
        """The group's committed positions, once no pending transaction can change them; None for none.

        Raises NotNowError.
        """
        ...

    def starting_offset(self, partition: Partition) -> int:
        """Where a partition without a committed position begins, as `input.start` says. Raises NotNowError."""
        ...

    def beginning(self, partition: Partition) -> int:
        """The first offset of an input partition that is still there. Raises NotNowError, soon."""
        ...

    def commit_positions(self, positions: Mapping[Partition, Position]) -> None:
        """Commit positions outside a transaction. Raises NotNowError, NotAMemberError, FencedError."""
        ...

    def transact(self, output: Sequence[Messages], positions: Mapping[Partition, Position]) -> None:
        """One attempt at a transaction of all messages and positions; returns when it is committed.

        1. begin   2. send every message to the partition it names, and see each confirmed
        3. send the positions with the group's present generation, never one below 0   4. commit

        Raises AbortedError, NotAMemberError, OutcomeUnknownError, FencedError, or DeliveryError for what no
        repetition mends.
        """
        ...

    def recover(self) -> None:
        """After OutcomeUnknownError: a new producer with the same transactional id, which ends what was pending.

        Raises NotNowError, FencedError.
        """
        ...

    def lag(self) -> Mapping[Partition, int]:
        """Records between each assigned partition's position and its end, as last seen."""
        ...

    def close(self) -> None:
        """Leave the group (a static member keeps its place) and close every connection."""
        ...


class LogReader(Protocol):
    """Reads partitions outside the group: changelogs and input to be replayed. Raises NotNowError.

    `begin` and `end` may be asked beside the thread that reads, one at a time.
    """

    def end(self, partition: Partition) -> int:
        """The offset after the last record, those of open transactions too."""
        ...

    def begin(self, partition: Partition) -> int:
        """The first offset that is still there."""
        ...

    def seek(self, partition: Partition, offset: int) -> None:
        """Read this partition next, from the offset on, `read_committed`; no other at the same time."""
        ...

    def rest(self) -> None:
        """Read nothing until the next `seek`: a library may read ahead by itself."""
        ...

    def read(self, timeout_seconds: float) -> tuple[Records | None, int]:
        """Records that came in time, if any, and the position: beyond them, and beyond aborted ones and markers."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...
