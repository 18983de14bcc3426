"""A broken state touches one stream only: find the rows that broke, and step them alone to where they did.

A state is broken when it holds a number that is not finite or has exploded. Inputs are finite before they come here,
so a break is the model's own. A forecast that is not finite breaks nothing where the state is sound: a replay, which
forecasts nothing, could not tell, and would come to another state than the run that it repeats.

States are seen after a call, so a break within it is found because it lasts: the contract says that a state that broke
stays so for the rest of a call. A model whose states heal themselves would be reset or not depending on where the
blocks were cut.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streamer.core.contract import Array, Block, Model
from streamer.core.timegrid import Mask

EXPLODED = 1e36  # two decades below float32's end; the square of the largest input.max_abs of sense is far below


@dataclass(frozen=True, slots=True)
class Alone:
    """What became of one row stepped alone.

    quantiles  (n, H, Q)  of the row's emitted steps; NaN where even a fresh state gave none
    state      one (1, …) per state tensor
    resets     the steps at which its state broke, each with the first step in the new state: the same step,
               or the next where that step breaks a fresh state too
    """

    quantiles: npt.NDArray[np.float32]
    state: list[Array]
    resets: list[tuple[int, int]]


def broken_rows(states: Sequence[Array]) -> Mask:
    """Which rows (B,) broke."""
    broken = np.zeros(len(states[0]), bool)
    for state in states:
        if state.dtype.kind == "f":
            flat = state.reshape(len(state), -1)
            broken |= ~(np.abs(flat) < _limit(state)).all(axis=1)
    return broken


def are_sound(states: Sequence[Array]) -> bool:
    """Whether every number is finite and has not exploded."""
    return all(_sound(state) for state in states)


def step_alone(model: Model, block: Block, row: int, state: Sequence[Array]) -> Alone:
    """Advance one row of a block step by step from its old state (1, …), reset where it breaks."""
    state, quantiles = list(state), []
    resets: list[tuple[int, int]] = []
    for t, step in enumerate(_single_steps(block, row)):
        result, after = model.advance(step, state)
        if not are_sound(after):
            nothing = [np.zeros_like(s) for s in state]
            result, after = model.advance(step, nothing)
            begins = t
            if not are_sound(after):
                result, after, begins = np.full_like(result, np.nan), nothing, t + 1
            resets.append((t, begins))
        quantiles.append(result)
        state = after
    return Alone(np.concatenate(quantiles), state, resets)


def _sound(state: Array) -> bool:
    if state.dtype.kind != "f":
        return True
    limit = _limit(state)
    return bool(state.max(initial=0) < limit and state.min(initial=0) > -limit)  # a NaN fails both


def _limit(state: Array) -> float:
    """What no sound number of the state reaches; float16 ends far below EXPLODED, so there only infinity is."""
    return np.inf if state.dtype == np.float16 else EXPLODED


def _single_steps(block: Block, row: int) -> Iterator[Block]:
    width = block.time.shape[1]
    emitted = set(block.emit.tolist())
    for t in range(int(block.length[row])):
        here = np.zeros(int(row * width + t in emitted), np.int64)
        yield replace(
            block,
            value=block.value[row : row + 1, t : t + 1],
            observed=block.observed[row : row + 1, t : t + 1],
            time=block.time[row : row + 1, t : t + 1],
            length=np.ones(1, np.int64),
            emit=here,
            static=block.static[row : row + 1],
        )
