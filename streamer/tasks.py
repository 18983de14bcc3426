"""A partition's task: from its assignment until the partition goes.

    assigned ──► restoring ──► running ──► closed
        └────────────┴────────────────────────┘     revoked, lost or fenced, at any moment

A task is one ownership. A partition that goes and comes back gets a new task, and what the old one has in a
transaction is not its business: whoever sends something asks whether it is the very task that prepared it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

import numpy as np

from streamer.core.events import Partition
from streamer.core.ledger import Ledger
from streamer.core.timegrid import Ints
from streamer.errors import StateError


class Phase(Enum):
    """Where a task is in its life."""

    ASSIGNED = "assigned"
    RESTORING = "restoring"
    RUNNING = "running"
    CLOSED = "closed"


LEGAL: Mapping[Phase, frozenset[Phase]] = {
    Phase.ASSIGNED: frozenset({Phase.RESTORING, Phase.CLOSED}),
    Phase.RESTORING: frozenset({Phase.RUNNING, Phase.ASSIGNED, Phase.CLOSED}),  # ASSIGNED: once more from the start
    Phase.RUNNING: frozenset({Phase.CLOSED}),
    Phase.CLOSED: frozenset(),
}


@dataclass(eq=False)
class Task:
    """One ownership of one partition.

    ledger     its dirty streams
    committed  the offset that the last transaction prepared for it commits
    position   the offset of the next record to read
    born       rows of streams begun since that transaction, whose first snapshot goes with the next
    rebuilt    rows of streams built anew from the input, whose snapshots go before the task runs
    read_to    the offset up to which the input was read, or found to be deleted
    saving     whether it writes, before it runs, what its restore decided: `rebuilt` and `voided`
    voided     streams that start fresh although the changelog has a snapshot of them, which lacks events: their
               tombstones go with the next transactions, and the low-water mark stays where the restore found it
    """

    partition: Partition
    ledger: Ledger
    phase: Phase = Phase.ASSIGNED
    committed: int = 0
    position: int = 0
    read_to: int = 0
    born: list[Ints] = field(default_factory=list)
    rebuilt: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    saving: bool = False
    voided: dict[str, None] = field(default_factory=dict)
    replays_from: int = 0

    def move(self, phase: Phase) -> None:
        """Go on to another phase. Raises StateError where no such transition exists."""
        if phase not in LEGAL[self.phase]:
            raise StateError(f"partition {self.partition}: a {self.phase.value} task cannot become {phase.value}")
        self.phase = phase

    @property
    def name(self) -> str:
        """The partition's name in the log."""
        return f"{self.partition.topic}-{self.partition.number}"

    @property
    def is_ours(self) -> bool:
        """Whether this ownership still holds."""
        return self.phase is not Phase.CLOSED

    def take_born(self) -> Ints:
        """Rows whose first snapshot is due."""
        taken, self.born = self.born, []
        return np.unique(np.concatenate(taken)) if taken else np.zeros(0, np.int64)

    def take_rebuilt(self, limit: int) -> Ints:
        """Some of the rows built anew, to be snapshotted."""
        taken, self.rebuilt = self.rebuilt[:limit], self.rebuilt[limit:]
        return taken

    def take_voided(self, limit: int) -> list[str]:
        """Streams whose tombstones are due."""
        taken = list(islice(self.voided, limit))
        for stream in taken:
            del self.voided[stream]
        return taken

    def low_water(self) -> int:
        """From where a restart must replay, were everything up to `position` committed."""
        low_water = self.ledger.low_water(self.position)
        return min(low_water, self.replays_from) if self.voided else low_water


def changelog_name(group_id: str, topic: str) -> str:
    """The topic that holds the snapshots of an input topic's streams."""
    return f"{group_id}-{topic}-changelog"


def changelog_of(group_id: str, partition: Partition) -> Partition:
    """Where a partition's snapshots are."""
    return Partition(changelog_name(group_id, partition.topic), partition.number)
