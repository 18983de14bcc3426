"""Run accepted events through the model: states out of the arena, forward, and back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streamer.core.acceptance import Accepted
from streamer.core.arena import Arena
from streamer.core.blocks import MAX_STEPS, Run, Steps
from streamer.core.contract import Array, Block, Model
from streamer.core.isolation import broken_rows, step_alone
from streamer.core.timegrid import Ints, TimeGrid

MAX_LAID_OUT_STEPS = 1 << 20  # steps laid out at a time


@dataclass(frozen=True, slots=True)
class Broken:
    """An arena row whose state broke: at which of the batch's steps, its time, and the first step in a new state."""

    row: int
    time: int
    step: int
    begins: int


def step(
    model: Model, arena: Arena, grid: TimeGrid, accepted: Accepted, places: Ints | None = None
) -> tuple[npt.NDArray[np.float32], list[Broken]]:
    """Advance every stream by its steps; quantiles (m, H, Q) of the m wanted events.

    places  (m,) where each wanted event's forecast is to be put; None saves the forecasts: m is 0
    """
    manifest, signature = model.manifest, model.signature
    emit = places is not None
    places = np.zeros(0, np.int64) if places is None else places
    quantiles = np.empty((len(places), manifest.horizon, len(manifest.levels)), np.float32)
    broken: list[Broken] = []
    events_before = steps_before = 0
    for part in accepted.parts(MAX_LAID_OUT_STEPS):
        steps = Steps(part, grid, signature.value_dtype, emit)
        for run, block in steps.blocks(signature.max_steps or MAX_STEPS):
            result, resets = _advance_block(model, arena, run, block)
            quantiles[places[events_before + run.events]] = result
            broken += [replace(b, step=steps_before + b.step, begins=steps_before + b.begins) for b in resets]
        events_before += int(part.wanted.sum())
        steps_before += len(steps.event)
    return quantiles, broken


def ages(accepted: Accepted, arena: Arena, broken: Sequence[Broken]) -> Ints:
    """(n,) steps since each event's stream was fresh, the event's own included."""
    done = np.cumsum(accepted.steps)
    begun = done - accepted.steps - np.where(accepted.fresh, 0, arena.age[accepted.row])
    anchor = np.where(accepted.first | accepted.fresh, np.arange(len(accepted)), 0)
    begun = begun[np.maximum.accumulate(anchor)]
    for b in broken:
        after = (accepted.row == b.row) & (done > b.step)
        begun[after] = np.maximum(begun[after], b.begins)
    return done - begun


def _advance_block(model: Model, arena: Arena, run: Run, block: Block) -> tuple[npt.NDArray[np.float32], list[Broken]]:
    before = arena.held.take(run.row, run.fresh)
    quantiles, after = model.advance(block, before)
    resets: list[Broken] = []
    if not arena.held.put(run.row, after):
        old, new = arena.held.fetched(before), arena.held.fetched(after)
        resets = _step_broken_alone(model, arena, run, block, (quantiles, old, new))
    if not (finite := np.isfinite(quantiles)).all():
        quantiles = np.where(finite, quantiles, np.float32(np.nan))
    return quantiles, resets


def _step_broken_alone(
    model: Model, arena: Arena, run: Run, block: Block, found: tuple[npt.NDArray[np.float32], list[Array], list[Array]]
) -> list[Broken]:
    """Step the rows that broke alone, from their old states; what was `found` of them is set right in place."""
    quantiles, old, new = found
    broken = np.flatnonzero(broken_rows(new))
    resets: list[Broken] = []
    for b in broken.tolist():
        alone = step_alone(model, block, b, [state[b : b + 1] for state in old])
        quantiles[block.emit // block.time.shape[1] == b] = alone.quantiles
        for state, own in zip(new, alone.state, strict=True):
            state[b] = own[0]
        row, first = int(run.row[b]), int(run.first[b])
        resets += [Broken(row, int(block.time[b, t]), first + t, first + begins) for t, begins in alone.resets]
    arena.held.write(run.row[broken], [state[broken] for state in new])
    return resets
