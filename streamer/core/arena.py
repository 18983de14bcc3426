"""The state arena: a row per stream in one array per state tensor, and what is known of the stream beside it.

Memory for `max_streams` rows is reserved at once and becomes real when a row is first used. Rows are handed
out and taken back; a new row is all zeros, which to a model is a stream never seen.
"""

from collections.abc import Sequence

import numpy as np

from streamer.core.contract import Array, StateSpec
from streamer.core.timegrid import NEVER, Ints, Mask


class Arena:
    """States and bookkeeping of up to `max_streams` streams.

    last_slot  (rows,)    the slot of the stream's last accepted event, NEVER for none
    age        (rows,)    steps since its state was last all zeros
    codes      (rows, C)  its static category codes, 0 unknown
    """

    def __init__(self, states: Sequence[StateSpec], categories: int, max_streams: int) -> None:
        self.max_streams = max_streams
        self.states: list[Array] = [np.zeros((max_streams, *s.shape), s.dtype) for s in states]
        self.last_slot: Ints = np.zeros(max_streams, np.int64)
        self.age: Ints = np.zeros(max_streams, np.int64)
        self.codes: Ints = np.zeros((max_streams, categories), np.int64)
        self.bytes_per_stream = (
            sum(a.nbytes for a in (*self.states, self.last_slot, self.age, self.codes)) // max_streams
        )
        self._unused = 0  # rows from here on were never handed out
        self._free: list[int] = []

    def __len__(self) -> int:
        return self._unused - len(self._free)

    def allocate(self) -> int | None:
        """A row for a new stream; None when all are taken."""
        if self._free:
            return self._free.pop()
        if self._unused == self.max_streams:
            return None
        row = self._unused
        self._unused += 1
        self.last_slot[row] = NEVER
        return row

    def release(self, rows: Sequence[int]) -> None:
        """Take rows back and make them all zeros again."""
        for tensor in self.states:
            tensor[rows] = 0
        self.last_slot[rows] = NEVER
        self.age[rows] = 0
        self.codes[rows] = 0
        self._free.extend(rows)

    def remember(self, rows: Ints, last_slot: Ints, age: Ints, codes: Ints) -> None:
        """Where these streams are now, and what is known of them."""
        self.last_slot[rows], self.age[rows], self.codes[rows] = last_slot, age, codes

    def gather(self, rows: Ints, fresh: Mask) -> list[Array]:
        """Copies of the rows' states, (B, …) each; all zeros where fresh."""
        gathered = [tensor[rows] for tensor in self.states]
        if fresh.any():
            for state in gathered:
                state[fresh] = 0
        return gathered

    def scatter(self, rows: Ints, states: Sequence[Array]) -> None:
        """Put states back."""
        for tensor, state in zip(self.states, states, strict=True):
            tensor[rows] = state
