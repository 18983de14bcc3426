"""The partitions that wait to be restored, a slice of the first one at a time.

One that gets nowhere lets the others go first: while brokers do not answer its questions, while its snapshots are
under way, and when what it reads has stood still for long.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from streamer.delivery import NotNowError
from streamer.logs import log
from streamer.questions import NotYetError
from streamer.restore import Restore
from streamer.tasks import Phase, Task

SLICE_SECONDS = 0.05  # between polls, so that restoring stops nobody


@dataclass(frozen=True)
class Restored:
    """A partition that runs now, and what it took."""

    task: Task
    seconds: float
    snapshots: int
    replayed: int


class Restores:
    """Tasks in the order of their turns.

    restoring  makes the `Restore` of a new task
    monotonic  seconds that never go back
    """

    def __init__(self, restoring: Callable[[Task], Restore], monotonic: Callable[[], float]) -> None:
        self._restoring = restoring
        self._monotonic = monotonic
        self._waiting: dict[Task, Restore] = {}
        self._begun: dict[Task, float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, task: Task) -> None:
        """A new task, the last in the queue."""
        self._waiting[task] = self._restoring(task)
        self._begun[task] = self._monotonic()

    def remove(self, task: Task) -> None:
        """A task that has ended."""
        self._waiting.pop(task, None)
        self._begun.pop(task, None)

    def slice(self) -> tuple[bool, Restored | None]:
        """Restore a little of the first; whether it got further than ever, and what runs now. Raises StateError."""
        task, restore = next(iter(self._waiting.items()))
        got_on = False
        try:
            got_on = restore.slice(SLICE_SECONDS, self._monotonic())
        except NotNowError as problem:
            if not isinstance(problem, NotYetError):
                log("restore_delayed", partition=task.name, error=str(problem))
            if not restore.is_reading:
                self._let_others_go_first(task)
        if restore.is_saving:
            self._let_others_go_first(task)
        elif len(self) > 1 and restore.stands_still(self._monotonic()):
            log("restore_set_aside", logging.WARNING, partition=task.name)
            restore.set_aside()
            self._let_others_go_first(task)
        if task.phase is not Phase.RUNNING:
            return got_on, None
        restored = Restored(task, self._monotonic() - self._begun[task], restore.snapshots, restore.replayed)
        self.remove(task)
        return got_on, restored

    def _let_others_go_first(self, task: Task) -> None:
        self._waiting[task] = self._waiting.pop(task)
