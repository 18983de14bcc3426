"""Which streams of a partition changed since their last snapshot, and the offset from which the input must be kept.

A stream becomes dirty with the first event that changes it after its snapshot, and clean with its next snapshot.
Streams become dirty in the order of offsets, so the ledger is a queue, and its head is the low-water mark. Entries
are not searched for when a stream becomes clean or is forgotten: each carries a stamp that no other has, and one
whose row bears another stamp by now is void. A batch may add a single entry, so the queue is kept in columns, and
no look at it costs anything by the batch.
"""

import numpy as np
import numpy.typing as npt

from streamer.core.arena import CLEAN, Arena
from streamer.core.timegrid import Ints, Mask

Floats = npt.NDArray[np.float64]

ROOM = 1_024  # entries at first
LOOK = 1_024  # entries looked at together, of which one is expected to be valid


class Ledger:
    """The dirty streams of one partition, in the order in which they became so.

    Entries begin … end - 1 of each column count.

    rows     (room,)  the stream
    offsets  (room,)  what changed it, increasing
    stamps   (room,)  its row's, as long as it is dirty since
    times    (room,)  when, in seconds, never decreasing
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._begin = self._end = 0
        self._reserve(ROOM)

    def __len__(self) -> int:
        return int(np.count_nonzero(self._valid(self._begin, self._end)))

    def changed(self, rows: Ints, offsets: Ints, now: float) -> None:
        """Events changed these streams.

        rows     (n,)  the stream of each event
        offsets  (n,)  increasing, and above all told before
        now            seconds, as `due` counts them; not before those told before
        """
        clean = self._arena.stamp[rows] == CLEAN
        if not clean.any():
            return
        dirty, first = np.unique(rows[clean], return_index=True)
        order = np.argsort(first)
        dirty, at = dirty[order], offsets[clean][first[order]]
        stamps = self._arena.new_stamps(len(dirty))
        self._arena.stamp[dirty] = stamps
        if self._end + len(dirty) > len(self._rows):
            self._make_room(len(dirty))
        new = slice(self._end, self._end + len(dirty))
        self._rows[new], self._offsets[new], self._stamps[new], self._times[new] = dirty, at, stamps, now
        self._end = new.stop

    def low_water(self, committed: int) -> int:
        """The smallest offset that changed a stream since its snapshot; `committed` when all are clean."""
        while self._begin < self._end:
            end = min(self._begin + LOOK, self._end)
            valid = self._valid(self._begin, end)
            first = int(valid.argmax())
            if valid[first]:
                self._begin += first
                return int(self._offsets[self._begin])
            self._begin = end
        return committed

    def due(self, before: float, limit: int) -> tuple[Ints, Floats]:
        """Rows that have been dirty since `before` or longer, oldest first, at most `limit`, and since when each."""
        end = self._begin + int(np.searchsorted(self._times[self._begin : self._end], before, side="right"))
        found, at, left = [np.zeros(0, np.int64)], self._begin, limit
        while at < end and left > 0:
            upto = min(end, at + max(left, LOOK))
            valid = at + np.flatnonzero(self._valid(at, upto))[:left]
            found.append(valid)
            at, left = upto, left - len(valid)
        entries = np.concatenate(found)
        return self._rows[entries], self._times[entries]

    def clean(self, rows: Ints) -> None:
        """These streams were snapshotted."""
        self._arena.stamp[rows] = CLEAN

    def _valid(self, begin: int, end: int) -> Mask:
        return np.equal(self._arena.stamp[self._rows[begin:end]], self._stamps[begin:end])

    def _make_room(self, more: int) -> None:
        """For more entries: void ones go, and as many as stay may come before the next time."""
        kept = self._begin + np.flatnonzero(self._valid(self._begin, self._end))
        columns = [column[kept] for column in (self._rows, self._offsets, self._stamps)]
        times = self._times[kept]
        self._reserve(max(ROOM, 2 * (len(kept) + more)))
        self._begin, self._end = 0, len(kept)
        self._rows[: self._end], self._offsets[: self._end], self._stamps[: self._end] = columns
        self._times[: self._end] = times

    def _reserve(self, room: int) -> None:
        self._rows, self._offsets, self._stamps = (np.zeros(room, np.int64) for _ in range(3))
        self._times: Floats = np.zeros(room)
