"""Hold a model to the contract's promises about numbers, which its file cannot declare.

A few short streams are advanced step by step, each alone. That is what the model says; every other way of advancing
the same streams must say the same:

    alone, step by step     finite from the first step on, no quantile above the next
    without a forecast      N = 0 gives the same states
    side by side            a row of a block does not depend on the other rows
    in blocks               T steps at once are T steps
    padded                  what is behind a row's length changes nothing
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streamer.core.contract import Array, Block, Model
from streamer.errors import ContractError

TOLERANCE = 1e-4  # of a number or of its stream's scale; kernels differ with a block's shape by a hundredth of it
FLOAT16_TOLERANCE = 1e-2  # of a model that rounds a state to ten bits after each call
BEGIN_MS = 1_700_000_000_000
STEP_MS = 3_600_000  # on a per-event grid
NAN = float("nan")
# Streams of three steps; NaN is missing. Shares between 0 and 1 suit a model of any positive quantity, and that one
# must give finite forecasts; the others are there for their difference.
STREAMS = {
    "without a value": (NAN, NAN, NAN),
    "of small values": (0.25, NAN, 0.75),
    "of values around 50": (40.0, 61.5, 55.0),
    "of large values": (5e4, -2e4, NAN),
}
MUST_BE_FINITE = 2  # of these, the first
STEPS = 3
LENGTHS = np.array([2, 1, 3, 2])
RUBBISH = 7777.0

Quantiles = npt.NDArray[np.float32]
States = list[Array]


@dataclass(frozen=True, slots=True)
class _Said:
    """What a model says of one stream: quantiles (T, H, Q), and its states (1, …) before each step and at the end."""

    quantiles: Quantiles
    states: list[States]


def check_conformance(model: Model, path: str) -> None:
    """Raises ContractError with the promise that the model breaks and the numbers found."""
    trial = _Trial(model, path)
    said = [trial.alone(b) for b in range(len(STREAMS))]
    trial.forecasts_nothing(said)
    trial.side_by_side(said)
    if model.signature.max_steps != 1:
        trial.in_blocks(said)
        trial.padded(said)


class _Trial:
    """One model, and the streams it is tried on."""

    def __init__(self, model: Model, path: str) -> None:
        self._model, self._path = model, path
        manifest, dtype = model.manifest, model.signature.value_dtype
        channels, rows = 1 + len(manifest.covariates), len(STREAMS)
        values = np.repeat(np.array(list(STREAMS.values()))[:, :, None], channels, axis=2)
        step = manifest.step_ms or STEP_MS
        begin = (BEGIN_MS - manifest.offset_ms) // step * step + manifest.offset_ms
        words = [len(vocabulary) + 1 for vocabulary in manifest.static.values()]
        self._block = Block(
            value=np.nan_to_num(values).astype(dtype),
            observed=(~np.isnan(values)).astype(np.float32),
            time=np.tile(begin + step * np.arange(STEPS), (rows, 1)),
            length=np.full(rows, STEPS),
            emit=np.arange(rows * STEPS),
            static=np.array([[b % n for n in words] for b in range(rows)], np.int64).reshape(rows, len(words)),
        )
        half = any(s.dtype == np.float16 for s in model.signature.states)
        self._tolerance = FLOAT16_TOLERANCE if half else TOLERANCE

    def alone(self, b: int) -> _Said:
        """A stream step by step, and what it must be wherever it is looked at."""
        states, quantiles = [self._fresh(1)], []
        for t in range(STEPS):
            result, after = self._advance(self._part([b], t, t + 1), states[-1])
            quantiles.append(result)
            states.append(after)
        said = _Said(np.concatenate(quantiles), states)
        if b < MUST_BE_FINITE:
            self._finite(b, said)
        falls = np.argwhere(said.quantiles[..., 1:] < said.quantiles[..., :-1])
        if len(falls):
            t, h, q = falls[0].tolist()
            lower, upper = said.quantiles[t, h, q : q + 2].tolist()
            levels = self._model.manifest.levels
            raise self._broken(
                "quantiles must not decrease with their level",
                f"at step {t + 1} of {_name(b)}, lead {h + 1}, level {levels[q]} is {lower:.7g} "
                f"and level {levels[q + 1]} is {upper:.7g}",
            )
        return said

    def forecasts_nothing(self, said: Sequence[_Said]) -> None:
        """N = 0."""
        block = replace(self._part([0], 0, 1), emit=np.zeros(0, np.int64))
        _, after = self._advance(block, self._fresh(1))
        self._same_states("a step without a forecast must leave the same state", 0, after, said[0].states[1])

    def side_by_side(self, said: Sequence[_Said]) -> None:
        """All streams in one block, step by step."""
        promise = "a stream's result must not depend on the others in its block"
        rows = range(len(said))
        for t in range(STEPS):
            before = [np.concatenate(tensors) for tensors in zip(*(s.states[t] for s in said), strict=True)]
            quantiles, after = self._advance(self._part(rows, t, t + 1), before)
            for b in rows:
                self._same_quantiles(promise, b, quantiles[b : b + 1], said[b], slice(t, t + 1))
                self._same_states(promise, b, [tensor[b : b + 1] for tensor in after], said[b].states[t + 1])

    def in_blocks(self, said: Sequence[_Said]) -> None:
        """Each stream alone, its steps at once."""
        promise = f"{STEPS} steps in one call must give what they give one by one"
        for b in range(len(said)):
            quantiles, after = self._advance(self._part([b], 0, STEPS), self._fresh(1))
            self._same_quantiles(promise, b, quantiles, said[b], slice(0, STEPS))
            self._same_states(promise, b, after, said[b].states[STEPS])

    def padded(self, said: Sequence[_Said]) -> None:
        """Each stream alone and then all together, with rubbish behind the real steps."""
        rows = range(len(said))
        for together in ([0], [1], [2], rows):
            promise = "padding must change nothing"
            if len(together) > 1:
                promise += ", nor must the others in a block"
            length = LENGTHS[together] if len(together) > 1 else np.ones(1, np.int64)
            real = np.arange(STEPS) < length[:, None]
            block = self._part(together, 0, STEPS)
            block.value[~real], block.observed[~real] = RUBBISH, 1
            emit = np.flatnonzero(real)
            quantiles, after = self._advance(replace(block, length=length, emit=emit), self._fresh(len(together)))
            for at, b in enumerate(together):
                own = quantiles[emit // STEPS == at]
                self._same_quantiles(promise, b, own, said[b], slice(0, int(length[at])))
                self._same_states(promise, b, [s[at : at + 1] for s in after], said[b].states[length[at]])

    def _part(self, rows: Sequence[int], begin: int, end: int) -> Block:
        """Some rows' steps from begin to end, every one of them emitted."""
        here, block = list(rows), self._block
        return Block(
            block.value[here, begin:end],
            block.observed[here, begin:end],
            block.time[here, begin:end],
            np.full(len(here), end - begin),
            np.arange(len(here) * (end - begin)),
            block.static[here],
        )

    def _fresh(self, rows: int) -> States:
        return [np.zeros((rows, *s.shape), s.dtype) for s in self._model.signature.states]

    def _advance(self, block: Block, states: States) -> tuple[Quantiles, States]:
        """One call, its shapes checked."""
        (b, t), n = block.time.shape, len(block.emit)
        try:
            quantiles, after = self._model.advance(block, states)
        except Exception as error:  # a back end raises types of its own
            said = next(iter(str(error).splitlines()), type(error).__name__)
            raise ContractError(f"{self._path}: fails on plain streams with B={b}, T={t}, N={n}: {said:.300}") from None
        horizon, levels = self._model.manifest.horizon, len(self._model.manifest.levels)
        if quantiles.shape != (n, horizon, levels):
            raise ContractError(
                f'{self._path}: manifest says horizon {horizon} and {levels} levels, so "quantiles" should be '
                f"{(n, horizon, levels)}, found {quantiles.shape}; export it again with `training export`"
            )
        for spec, new, old in zip(self._model.signature.states, after, states, strict=True):
            if new.shape != old.shape:
                raise ContractError(f'{self._path}: "next_state_{spec.name}" should be {old.shape}, found {new.shape}')
        return quantiles, after

    def _finite(self, b: int, said: _Said) -> None:
        tensors: list[tuple[str, Array]] = [("quantiles", said.quantiles)]
        for states in said.states[1:]:
            named = zip(self._model.signature.states, states, strict=True)
            tensors += [(f"next_state_{spec.name}", state) for spec, state in named]
        for name, tensor in tensors:
            if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
                found = tensor[~np.isfinite(tensor)][0]
                raise self._broken("plain values must give finite numbers", f'"{name}" of {_name(b)} holds {found}')

    def _same_quantiles(self, promise: str, b: int, found: Quantiles, said: _Said, steps: slice) -> None:
        scale = max(_largest(said.quantiles), _largest(self._block.value[b]))
        self._same(promise, b, "quantiles", found, said.quantiles[steps], scale)

    def _same_states(self, promise: str, b: int, found: States, expected: States) -> None:
        for spec, new, old in zip(self._model.signature.states, found, expected, strict=True):
            scale = max(1.0, _largest(old)) if spec.dtype.kind == "f" else 0.0  # counts and codes are exact
            self._same(promise, b, f"next_state_{spec.name}", new, old, scale)

    def _same(self, promise: str, b: int, name: str, found: Array, expected: Array, scale: float) -> None:
        new, old = found.astype(float), expected.astype(float)
        with np.errstate(invalid="ignore"):
            near = (np.abs(new - old) <= self._tolerance * scale) | (new == old) | (np.isnan(new) & np.isnan(old))
        if not near.all():
            at = np.unravel_index(int(np.argmin(near)), near.shape)
            raise self._broken(promise, f'"{name}" of {_name(b)} should hold {old[at]:.7g}, found {new[at]:.7g}')

    def _broken(self, promise: str, found: str) -> ContractError:
        return ContractError(f"{self._path}: {promise}: {found}; see docs/model-contract.md")


def _name(b: int) -> str:
    return f"a stream {list(STREAMS)[b]}"


def _largest(tensor: Array) -> float:
    """The largest finite magnitude."""
    finite = tensor[np.isfinite(tensor)]
    return float(np.abs(finite).max(initial=0.0))
