"""Which streams of a partition changed since their last snapshot, and the offset from which the input must be kept.

A stream becomes dirty with the first event that changes it after its snapshot, and clean with its next snapshot.
Streams become dirty in the order of offsets, so the ledger is a queue, and its head is the low-water mark. Entries
are not searched for when a stream becomes clean or is forgotten: each carries a stamp that no other has, and one
whose row bears another stamp by now is void.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.core.arena import CLEAN, Arena
from streamer.core.timegrid import Ints, Mask


@dataclass(slots=True)
class _Entries:
    """Streams that became dirty in one batch: their rows, the offsets that changed them, their stamps."""

    time: float
    rows: Ints
    offsets: Ints
    stamps: Ints


class Ledger:
    """The dirty streams of one partition, in the order in which they became so."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._queue: deque[_Entries] = deque()

    def __len__(self) -> int:
        return sum(int(self._valid(entries).sum()) for entries in self._queue)

    def changed(self, rows: Ints, offsets: Ints, now: float) -> None:
        """Events changed these streams.

        rows     (n,)  the stream of each event
        offsets  (n,)  increasing, and above all told before
        now            seconds, as `due` counts them
        """
        clean = self._arena.stamp[rows] == CLEAN
        if not clean.any():
            return
        dirty, first = np.unique(rows[clean], return_index=True)
        order = np.argsort(first)
        dirty, at = dirty[order], offsets[clean][first[order]]
        stamps = self._arena.new_stamps(len(dirty))
        self._arena.stamp[dirty] = stamps
        self._queue.append(_Entries(now, dirty, at, stamps))

    def low_water(self, committed: int) -> int:
        """The smallest offset that changed a stream since its snapshot; `committed` when all are clean."""
        while self._queue:
            valid = self._valid(self._queue[0])
            if valid.any():
                return int(self._queue[0].offsets[int(valid.argmax())])
            self._queue.popleft()
        return committed

    def due(self, before: float, limit: int) -> tuple[Ints, npt.NDArray[np.float64]]:
        """Rows that have been dirty since `before` or longer, oldest first, at most `limit`, and since when each."""
        found, times, left = [np.zeros(0, np.int64)], [np.zeros(0)], limit
        for entries in self._queue:
            if entries.time > before or left <= 0:
                break
            rows = entries.rows[self._valid(entries)][:left]
            found.append(rows)
            times.append(np.full(len(rows), entries.time))
            left -= len(rows)
        return np.concatenate(found), np.concatenate(times)

    def clean(self, rows: Ints) -> None:
        """These streams were snapshotted."""
        self._arena.stamp[rows] = CLEAN

    def _valid(self, entries: _Entries) -> Mask:
        return np.equal(self._arena.stamp[entries.rows], entries.stamps)
