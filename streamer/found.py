"""What a restore finds, held together: are position, snapshots and input of one piece?"""

from dataclasses import dataclass

from streamer.checkpoint import low_water_of
from streamer.core.events import Partition
from streamer.delivery import Position
from streamer.errors import StateError


@dataclass(frozen=True, slots=True)
class Input:
    """An input partition as brokers tell of it.

    begin, end  its offsets
    start       where a group begins that has no committed position; None where it has one
    unchanged   whether the committed position is still what it was; asked for where it does not fit the rest
    """

    begin: int
    end: int
    start: int | None
    unchanged: bool


@dataclass(frozen=True, slots=True)
class Saved:
    """What a group has saved of a partition.

    changelog  where its snapshots are
    is_empty   whether nothing was ever written there
    beyond     the furthest input offset that a snapshot covers; 0 without any
    committed  its position
    """

    group_id: str
    partition: Partition
    changelog: Partition
    is_empty: bool
    beyond: int
    committed: Position

    def fits(self, begin: int) -> bool:
        """Whether the position fits the snapshots, and input that begins at this offset; else it may be an old one."""
        offset, low_water = self.committed.offset, low_water_of(self.committed)
        return self.beyond <= offset and min(begin, offset) <= (offset if low_water is None else low_water)

    def low_water(self, end: int) -> int:
        """The low-water mark.

        end  of the input

        Raises StateError where these facts do not fit together, naming the numbers and the remedy.
        """
        name, log, offset = (
            f"{self.partition.topic}-{self.partition.number}",
            self.changelog.topic,
            self.committed.offset,
        )
        if self.beyond > offset:
            raise StateError(
                f"partition {name}: a snapshot in {log!r} covers the input up to offset {self.beyond}, but the group "
                f"has committed {offset}; if its offsets were reset on purpose, {self._remedy}"
            )
        low_water = low_water_of(self.committed)
        if low_water is None and not self.is_empty:
            raise StateError(
                f"partition {name}: offset {offset} was committed by somebody else (its metadata is "
                f"{self.committed.metadata!r}), so it does not fit the snapshots in {log!r}; {self._remedy}"
            )
        if end < offset:
            raise StateError(
                f"partition {name}: the group has committed offset {offset}, but the input ends at {end}; "
                f"if the topic was made anew, {self._remedy}"
            )
        return offset if low_water is None else low_water

    def lost_position(self) -> StateError:
        """There are snapshots, and the position that they belong to is not there."""
        return StateError(
            f"partition {self.partition.topic}-{self.partition.number}: the group has no committed offset, but there "
            f"are snapshots in {self.changelog.topic!r}; its offsets expired or were deleted; {self._remedy}"
        )

    @property
    def _remedy(self) -> str:
        return f"`streamer state reset` for group {self.group_id!r} starts its streams fresh"
