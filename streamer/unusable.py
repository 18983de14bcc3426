"""A partition's streams whose snapshots are of no use: built anew from the input, or started fresh.

There may be a million of them, so whatever goes over all of them is done in pieces, between which the loop turns.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TypeVar

import numpy as np

from streamer.core.engine import Engine
from streamer.core.timegrid import NEVER, Ints
from streamer.logs import log
from streamer.tasks import Task

Many = TypeVar("Many", list[str], Ints)

PIECE = 20_000  # streams, some 20 ms
TRUNCATED = "input_truncated"


class Unusable:
    """Those that a restore has found, and why their snapshots are of no use."""

    def __init__(self, task: Task, engine: Engine) -> None:
        self._task, self._engine = task, engine
        self._reasons: dict[str, str] = {}
        self._seen: set[str] = set()  # those of them that the replay came across

    def __len__(self) -> int:
        return len(self._reasons)

    def read(self, streams: Collection[str], reasons: Mapping[str, str]) -> None:
        """The last word of some streams was read; for some, why it is of no use."""
        for stream in self._reasons.keys() & streams:
            del self._reasons[stream]
        self._reasons |= reasons

    @property
    def rebuildable(self) -> list[str]:
        """Those of which all input that there is may be replayed."""
        return [stream for stream, reason in self._reasons.items() if reason != TRUNCATED]

    def cut(self, begin: int) -> Iterator[None]:
        """Streams whose snapshots rely on input that retention has deleted, before an offset, are forgotten."""
        partition, arena = self._task.partition, self._engine.arena
        rows = self._engine.rows(partition)
        for piece in _pieces(rows[arena.covers[rows] < begin]):
            hurt = [arena.stream[row] for row in piece.tolist()]
            self._engine.drop(partition, hurt)
            self._reasons |= dict.fromkeys(hurt, TRUNCATED)
            self._task.voided |= dict.fromkeys(hurt)
            if len(piece) == PIECE:
                yield

    def begin(self, offset: int) -> Iterator[None]:
        """What can be built anew is begun with nothing, for a replay from this offset on.

        Never of more: where the low-water mark lies depends on who saved what when.
        """
        for piece in _pieces(self.rebuildable):
            self._engine.begin(self._task.partition, piece, offset)
            if len(piece) == PIECE:
                yield

    def saw(self, streams: Collection[str]) -> None:
        """The replay came across these streams."""
        self._seen |= self._reasons.keys() & streams

    def end(self, all_are_void: bool) -> Iterator[None]:
        """The replay is over: the task knows which rows were built anew, and what is left starts fresh.

        The snapshots of what is left lack the events seen, and must not serve the model they are of again.

        all_are_void  whether the events seen are not all there were: then nobody knows whose the others were
        """
        rebuilt: list[int] = []
        for piece in _pieces(self._engine.rows(self._task.partition)):
            has_begun = self._engine.arena.last_slot[piece] != NEVER
            rebuilt += self._rebuilt(piece[has_begun])
            self._forget(piece[~has_begun])
            if len(piece) == PIECE:
                yield
        self._task.rebuilt = np.array(rebuilt, np.int64)
        for left in _pieces(list(self._reasons)):
            self._task.voided |= dict.fromkeys(left if all_are_void else filter(self._seen.__contains__, left))
            if len(left) == PIECE:
                yield

    def report(self, on_rebuilt: Callable[[int], None], on_reset: Callable[[str, int], None]) -> None:
        """Tell what became of them."""
        if rebuilt := len(self._task.rebuilt):
            on_rebuilt(rebuilt)
            log("streams_rebuilt", partition=self._task.name, streams=rebuilt)
        for reason, count in Counter(self._reasons.values()).items():
            on_reset(reason, count)
            log("snapshots_unused", logging.WARNING, partition=self._task.name, reason=reason, streams=count)

    def _rebuilt(self, rows: Ints) -> list[int]:
        streams = self._engine.arena.stream
        return [row for row in rows.tolist() if self._reasons.pop(streams[row], None)] if self._reasons else []

    def _forget(self, rows: Ints) -> None:
        """Those without an event in the replay are begun by their next one."""
        streams = self._engine.arena.stream
        self._engine.drop(self._task.partition, [streams[row] for row in rows.tolist()])


def _pieces(items: Many) -> Iterator[Many]:
    return (items[at : at + PIECE] for at in range(0, len(items), PIECE))
