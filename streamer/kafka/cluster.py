"""What a client asks of the brokers beside reading and sending: the topics' facts, and who holds its name."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Ground:
    """The topics as a start finds them.

    partitions   of each topic that is read or written
    batch_bytes  the largest batch that every topic written to takes
    letter_bytes the largest record that the dead letter topic takes; 0 where there is none
    """

    partitions: Mapping[str, int]
    batch_bytes: int
    letter_bytes: int


class Cluster(Protocol):
    """The brokers' side of a client's start."""

    def prepare(self) -> Ground:
        """Check the topics and create missing changelogs.

        Raises ConfigError for brokers that do not answer, and for a topic that does not exist or has too few
        partitions.
        """
        ...

    def largest_letter(self) -> int | None:
        """The largest record that the dead letter topic takes; None while brokers do not say."""
        ...

    def is_ours(self, member_ids: Collection[str]) -> bool | None:
        """Whether our name in the group is still this member's, or nobody's; None while the brokers do not say."""
        ...
