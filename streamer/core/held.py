"""Where the streams' states are held: a row each, in one tensor per state of the model.

The engine moves rows to the model and back and looks into them only when one broke. So they may be held where the model
runs, as a device's memory; the daemon's own memory is the plain case.
"""

from collections.abc import Callable, Sequence
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
    """`Held` in the process's own memory, reserved at once and real when a row is first used."""

    def __init__(self, states: Sequence[StateSpec], rows: int) -> None:
        self._tensors: list[Array] = [np.zeros((rows, *s.shape), s.dtype) for s in states]
        self.bytes_per_row = sum(tensor.nbytes for tensor in self._tensors) // rows

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
        return [tensor[rows] for tensor in self._tensors]

    def write(self, rows: Ints, states: Sequence[Array]) -> None:
        """Set the rows."""
        for tensor, state in zip(self._tensors, states, strict=True):
            tensor[rows] = state

    def grow(self, more: int) -> None:
        """Copies all there is."""
        self._tensors = [np.concatenate((t, np.zeros((more, *t.shape[1:]), t.dtype))) for t in self._tensors]
