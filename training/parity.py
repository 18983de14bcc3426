"""Hold a model file against its torch module: the same steps, cut in every way, give the same forecasts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streamer.core.contract import Array, Block, Model
from streamer.errors import ConfigError, ContractError
from training.data import Series, static_codes
from training.stepping import block_of, fresh_state

TOLERANCE = 1e-5  # of max(|forecast|, the stream's scale): the design's equality of forecasts
LARGE = "values at 1e6 ± 1"
RESOLVED = 2**-22  # of a number: two float32 steps, what the sum with a large origin may round
STEPS = 120  # steps of each case after its ring is full
CASES = 8  # real sequences taken
SEED = 20131101  # any; fixed so that an export that failed fails again


@dataclass(frozen=True)
class Difference:
    """The largest differences found: forecasts in units of max(|forecast|, scale), states of their largest element.

    States are told, not judged: where a stream stands still, its spread is rounding, and so is what is measured in it;
    and a block moves the anchor at its end, steps as soon as the level is far. What they lead to is judged, for every
    way of cutting goes on from the states it left.

    where  which way of cutting the steps, and which case
    """

    forecast: float
    state: float
    where: str

    def check(self, path: str) -> None:
        """Raises ContractError if they are more than rounding."""
        if self.forecast <= TOLERANCE and np.isfinite(self.state):
            return
        raise ContractError(
            f"{path}: onnxruntime and torch disagree on {self.where}: forecasts by {self.forecast:.2g} (at most "
            f"{TOLERANCE:g} is rounding), states by {self.state:.2g}; not written"
        )


def compare(reference: Model, model: Model, series: Sequence[Series]) -> Difference:
    """Both models over real and hard sequences: the reference in one block, the other cut in every way."""
    ring = max(s.shape[0] for s in reference.signature.states if s.name == "ring")
    cases = list(hard_cases(series, ring))
    names, sequences = [name for name, _ in cases], [s for _, s in cases]
    codes = static_codes(sequences, model.manifest.static)
    expected, expected_state = _run(reference, sequences, codes, [np.array([len(s)]) for s in sequences])
    worst = Difference(0.0, 0.0, "nothing")
    for way, cuts in _ways(sequences):
        found, state = _run(model, sequences, codes, cuts)
        gaps = [_relative(*each) for each in zip(found, expected, sequences, names, strict=True)]
        place = int(np.argmax(np.nan_to_num(gaps, nan=np.inf)))
        apart = max(_largest(a, b) for a, b in zip(state, expected_state, strict=True))
        where = worst.where if gaps[place] <= worst.forecast else f"{way}, case {names[place]!r}"
        worst = Difference(_max(gaps[place], worst.forecast), _max(apart, worst.state), where)
    return worst


def hard_cases(series: Sequence[Series], ring: int) -> Iterator[tuple[str, Series]]:
    """Named sequences: real ones, and real ones made hard. Raises ConfigError where no series holds a value."""
    steps = ring + STEPS
    chosen = [s for s in series if s.observed[:, 0].any()][:CASES]
    if not chosen:
        raise ConfigError("no stream of the data holds a value to compare torch and onnxruntime on; name other data")
    cut = [_slice(s, max(0, len(s) - steps - 7 * i), steps) for i, s in enumerate(chosen)]
    yield from ((f"as it is, {s.stream}", s) for s in cut)
    first = cut[0]
    observed = first.observed.copy()
    observed[: STEPS // 2] = 0
    yield "a leading gap", _with(first, observed=observed)
    observed = first.observed.copy()
    observed[20 : 20 + ring + 30] = 0
    yield "a gap longer than the ring", _with(first, observed=observed)
    yield "never observed", _with(first, observed=np.zeros_like(first.observed))
    random = np.random.default_rng(SEED)
    observed = first.observed * (random.random(first.observed.shape) < 0.7)
    yield "three of ten missing", _with(first, observed=observed.astype(np.float32))
    large = first.value.copy()
    large[:, 0] = 1e6 + random.uniform(-1, 1, len(first))
    yield LARGE, _with(first, value=large, observed=np.ones_like(first.observed))
    counter = first.value.copy()
    counter[:, 0] = np.cumsum(random.uniform(0, 1e3, len(first)))
    yield "a counter", _with(first, value=counter)
    yield "constant", _with(first, value=np.ones_like(first.value))
    yield "a short stream", _slice(first, 0, 3)


def _ways(series: Sequence[Series]) -> Iterator[tuple[str, list[npt.NDArray[np.int64]]]]:
    """Ways to cut each sequence into pieces; rows of different lengths in a block are the padding."""
    lengths = [len(s) for s in series]
    yield "one block and a step", [np.array([n - 1, 1][n < 2 :]) for n in lengths]
    yield "step by step", [np.ones(n, np.int64) for n in lengths]
    random = np.random.default_rng(SEED)
    for way in range(2):
        cuts = []
        for n in lengths:
            borders = np.sort(random.choice(np.arange(1, n), min(n - 1, 5 + 3 * way), replace=False))
            cuts.append(np.diff(np.concatenate(([0], borders, [n]))))
        yield f"random blocks {way + 1}", cuts


def _run(
    model: Model, series: Sequence[Series], codes: npt.NDArray[np.int64], cuts: Sequence[npt.NDArray[np.int64]]
) -> tuple[list[npt.NDArray[np.float32]], list[Array]]:
    """Forecasts after every step, and the last states; piece k of every sequence that has one shares block k."""
    state = fresh_state(model, len(series))
    at = np.zeros(len(series), np.int64)
    out: list[list[npt.NDArray[np.float32]]] = [[] for _ in series]
    for k in range(max(map(len, cuts))):
        rows = np.array([i for i, c in enumerate(cuts) if k < len(c)])
        length = np.array([cuts[i][k] for i in rows])
        block = block_of([series[i] for i in rows], at[rows], length, codes[rows])
        width = block.time.shape[1]
        emit = np.concatenate([j * width + np.arange(n) for j, n in enumerate(length)])
        quantiles, following = model.advance(_soiled(replace(block, emit=emit)), [s[rows] for s in state])
        for i, piece in zip(rows, np.split(quantiles, np.cumsum(length)[:-1]), strict=True):
            out[i].append(piece)
        for whole, new in zip(state, following, strict=True):
            whole[rows] = new
        at[rows] += length
    return [np.concatenate(pieces) for pieces in out], state


def _soiled(block: Block) -> Block:
    """The block with rubbish in its padding, which must change nothing."""
    padding = np.arange(block.time.shape[1]) >= block.length[:, None]
    value, observed, time = block.value.copy(), block.observed.copy(), block.time.copy()
    value[padding], observed[padding], time[padding] = 1e9, 1, 10**12
    return replace(block, value=value, observed=observed, time=time)


def _relative(
    found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], series: Series, name: str
) -> float:  # fmt: skip
    """The largest difference of forecasts, in units in which TOLERANCE is the most that is rounding.

    On a large level with a small signal the design's own unit, the forecast, would hide the signal: there the unit is
    the stream's scale, and what float32 cannot resolve is allowed.
    """
    target = series.target
    spread = float(np.nanstd(target)) if np.isfinite(target).any() else 0.0
    size = np.abs(expected) * (RESOLVED / TOLERANCE if name == LARGE else 1.0)
    return float(np.max(np.abs(found - expected) / np.maximum(size, max(spread, 1e-30))))


def _largest(found: Array, expected: Array) -> float:
    a, b = found.astype(np.float64), expected.astype(np.float64)
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(b).max(axis=1, keepdims=True), 1e-30)))


def _max(a: float, b: float) -> float:
    return a if not a <= b else b  # NaN wins


def _slice(series: Series, begin: int, steps: int) -> Series:
    part = slice(begin, begin + steps)
    return replace(series, time=series.time[part], value=series.value[part], observed=series.observed[part])


def _with(
    series: Series, value: npt.NDArray[np.float64] | None = None, observed: npt.NDArray[np.float32] | None = None
) -> Series:
    seen = series.observed if observed is None else observed
    return replace(series, value=(series.value if value is None else value) * (seen > 0), observed=seen)
