"""The state arena: a row per stream, with its state, held wherever the model runs, and what is known of it.

Memory for `max_streams` rows is reserved at once and becomes real when a row is first used. Rows are handed
out and taken back. What a row's state holds when it is handed out counts for nothing: a stream's first step starts
fresh, from all zeros, which to a model is a stream never seen.
"""

from collections.abc import Sequence

import numpy as np

from streamer.core.held import Held
from streamer.core.snapshot import Snapshots
from streamer.core.timegrid import NEVER, Ints

GROWTH = 65_536  # rows added when restored streams need more than was reserved
CLEAN = 0  # the stamp of a stream that its snapshot describes


class Arena:
    """States and bookkeeping of streams, by row; new ones up to `max_streams`.

    held       (rows, …)  its state tensors
    stream     rows ids
    last_slot  (rows,)    the slot of the stream's last accepted event, NEVER for none
    age        (rows,)    steps since its state was last all zeros
    codes      (rows, C)  its static category codes, 0 unknown
    covers     (rows,)    the input offset below which its snapshot includes every event; 0 without one
    stamp      (rows,)    which change since its snapshot was the first, CLEAN for none; see `ledger`
    """

    def __init__(self, held: Held, categories: int, max_streams: int) -> None:
        self.max_streams = max_streams
        self.held = held
        self.last_slot: Ints = np.zeros(max_streams, np.int64)
        self.age: Ints = np.zeros(max_streams, np.int64)
        self.codes: Ints = np.zeros((max_streams, categories), np.int64)
        self.covers: Ints = np.zeros(max_streams, np.int64)
        self.stamp: Ints = np.zeros(max_streams, np.int64)
        self.stream: list[str] = []  # as long as rows were ever handed out
        self.bytes_per_stream = held.bytes_per_row + sum(a.nbytes for a in self._columns) // max_streams
        self._free: list[int] = []
        self._last_stamp = CLEAN

    def __len__(self) -> int:
        return len(self.stream) - len(self._free)

    @property
    def dirty(self) -> int:
        """Streams that their snapshots do not describe."""
        return int(np.count_nonzero(self.stamp))

    def allocate(self, stream: str) -> int | None:
        """A row for a new stream; None when `max_streams` have one."""
        if len(self) >= self.max_streams:
            return None
        if self._free:
            row = self._free.pop()
            self.stream[row] = stream
            return row
        self.stream.append(stream)
        self.last_slot[len(self.stream) - 1] = NEVER
        return len(self.stream) - 1

    def admit(self, streams: Sequence[str]) -> Ints:
        """Rows for restored streams, however many there are; to be `put`, or as yet without an event."""
        rows = [self._free.pop() for _ in range(min(len(self._free), len(streams)))]
        for row, stream in zip(rows, streams, strict=False):
            self.stream[row] = stream
        new = streams[len(rows) :]
        rows += range(len(self.stream), len(self.stream) + len(new))
        self.stream.extend(new)
        self._grow_to(len(self.stream))
        at = np.array(rows, np.int64)
        self.last_slot[at] = NEVER
        return at

    def put(self, rows: Ints, snapshots: Snapshots) -> None:
        """Streams as their snapshots have them."""
        self.remember(rows, snapshots.last_slot, snapshots.age, snapshots.codes)
        self.covers[rows], self.stamp[rows] = snapshots.covers, CLEAN
        self.held.write(rows, snapshots.states)

    def release(self, rows: Sequence[int] | Ints) -> None:
        """Take rows back. Their states stay as they are: a million of them would take a second to clear."""
        at = np.asarray(rows, np.int64)
        self.last_slot[at], self.covers[at], self.stamp[at] = NEVER, 0, CLEAN
        self._free.extend(at.tolist())

    def remember(self, rows: Ints, last_slot: Ints, age: Ints, codes: Ints) -> None:
        """Where these streams are now, and what is known of them."""
        self.last_slot[rows], self.age[rows], self.codes[rows] = last_slot, age, codes

    def snapshots(self, rows: Ints, covers: int) -> Snapshots:
        """Copies of these streams' states as of the input offset `covers`."""
        self.covers[rows] = covers
        known = self.last_slot[rows], self.age[rows], self.covers[rows], self.codes[rows]
        return Snapshots(*known, self.held.read(rows))

    def new_stamps(self, count: int) -> Ints:
        """Stamps that no row has borne before."""
        self._last_stamp += count
        return np.arange(self._last_stamp - count + 1, self._last_stamp + 1)

    @property
    def _columns(self) -> list[Ints]:
        return [self.last_slot, self.age, self.codes, self.covers, self.stamp]

    def _grow_to(self, rows: int) -> None:
        have = len(self.last_slot)
        if rows <= have:
            return
        more = -(-(rows - have) // GROWTH) * GROWTH
        self.held.grow(more)
        self.last_slot, self.age, self.codes, self.covers, self.stamp = (
            np.concatenate((a, np.zeros((more, *a.shape[1:]), a.dtype))) for a in self._columns
        )
