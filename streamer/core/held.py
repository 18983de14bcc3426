"""Where the streams' states are held: a row each, in one tensor per state of the model.

The engine moves rows to the model and back and looks into them only when one broke. So they may be held where the model
runs, as a device's memory; the daemon's own memory is the plain case.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from streamer.core.contract import Array, StateSpec, Taken
from streamer.core.isolation import are_sound
from streamer.core.timegrid import Ints, Mask


class Held(Protocol):
    """Rows of every state tensor. What a row holds before it was written counts for nothing."""

    bytes_per_row: int

    def take(self, rows: Ints, fresh: Mask) -> Taken:
        """Copies of rows (B,) for the model; all zeros where fresh (B,)."""
        ...

    def put(self, rows: Ints, states: Taken) -> bool:
        """Put back what the model made of them; whether all of it is finite and has not exploded."""
        ...

    def fetched(self, states: Taken) -> list[Array]:
        """What was taken, or the model made of it, as arrays that may be written to."""
        ...

    def read(self, rows: Ints) -> list[Array]:
        """Copies of rows as arrays."""
        ...

    def write(self, rows: Ints, states: Sequence[Array]) -> None:
        """Set rows from arrays."""
        ...

    def grow(self, more: int) -> None:
        """Make room for more rows."""
        ...


Hold = Callable[[Sequence[StateSpec], int], Held]  # room for so many rows of these states


class HeldHere:
    """`Held` in the process's own memory, reserved at once and real when a row is first used.

    Rows beyond those come in chunks of their own: to copy a million rows would take seconds, and their memory twice.
    """

    def __init__(self, states: Sequence[StateSpec], rows: int) -> None:
        self._states = list(states)
        self._chunks: list[list[Array]] = []
        self._ends: Ints = np.zeros(0, np.int64)  # of the chunks
        self.grow(rows)
        self.bytes_per_row = sum(tensor.nbytes for tensor in self._chunks[0]) // rows

    def take(self, rows: Ints, fresh: Mask) -> list[Array]:
        """Copies of the rows."""
        taken = self.read(rows)
        if fresh.any():
            for state in taken:
                state[fresh] = 0
        return taken

    def put(self, rows: Ints, states: Taken) -> bool:
        """Put them back."""
        self.write(rows, states)
        return are_sound(states)

    def fetched(self, states: Taken) -> list[Array]:
        """They are here."""
        return list(states)

    def read(self, rows: Ints) -> list[Array]:
        """Copies of the rows."""
        if len(self._chunks) == 1:
            return [tensor[rows] for tensor in self._chunks[0]]
        states = [np.empty((len(rows), *spec.shape), spec.dtype) for spec in self._states]
        for chunk, at, within in self._found(rows):
            for state, tensor in zip(states, chunk, strict=True):
                state[at] = tensor[within]
        return states

    def write(self, rows: Ints, states: Sequence[Array]) -> None:
        """Set the rows."""
        for chunk, at, within in self._found(rows):
            for tensor, state in zip(chunk, states, strict=True):
                tensor[within] = state[at]

    def grow(self, more: int) -> None:
        """Nothing is copied."""
        self._chunks.append([np.zeros((more, *spec.shape), spec.dtype) for spec in self._states])
        self._ends = np.append(self._ends, more + self._ends[-1:].sum())

    def _found(self, rows: Ints) -> Iterator[tuple[list[Array], slice | Ints, Ints]]:
        """The chunks that have some of the rows, which of the rows those are, and where each has them."""
        if len(self._chunks) == 1:
            yield self._chunks[0], slice(None), rows
            return
        number = np.searchsorted(self._ends, rows, side="right")
        for i in np.unique(number).tolist():
            at = np.flatnonzero(number == i)
            yield self._chunks[i], at, rows[at] - (self._ends[i - 1] if i else 0)
