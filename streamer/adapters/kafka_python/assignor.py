"""How the group's partitions are shared out: cooperative-sticky, claiming nothing from a membership that is over.

A member says, as it joins, which partitions it has; those of others are given away only after their owners have let go.
kafka-python (3.0.12) goes on claiming what a lost membership gave it. Then a process that slept through its session
claims, as it wakes up, what its heir has; whoever is counted last counts, and a partition has two owners until the heir
hears of it: both commit under the generation at hand, and events are forecast twice.
"""

from collections.abc import Callable, Collection
from typing import Any

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import ConsumerGroupMetadata


class ClaimingAssignor(CooperativeStickyAssignor):  # type: ignore[misc]  # the library has no types
    """Claims the partitions of the present membership alone.

    membership  tells who we are in the group; None until the consumer is there, which has no partitions then
    """

    def __init__(self) -> None:
        super().__init__()
        self.membership: Callable[[], ConsumerGroupMetadata] | None = None

    def metadata(self, topics: Collection[str]) -> Any:
        """What a join says of this member: its topics, and the partitions that it has."""
        if self.membership is None or self.membership().generation_id < 0:
            self.member_assignment = None
        return super().metadata(topics)
