"""Training's examples: windows drawn at random from the training part, each with the state its past leaves."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamer.core.scoring import seasonal_naive_error
from streamer.errors import ConfigError
from training.config import Config
from training.data import Parts, Series, own_season, parts, static_codes
from training.network import Forecaster, Statistics
from training.stepping import block_of, targets

Indices = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, list[Tensor]]  # of the network, in order
STILL = 1e-9  # of a covariate's mean: a deviation below it is rounding
HIDDEN_WINDOWS = 0.25  # share of windows in which observations are hidden


@dataclass(frozen=True)
class Example:
    """A series, where its parts end, and the scale of its loss."""

    series: Series
    parts: Parts
    scale: float


@dataclass(frozen=True)
class Batch:
    """Windows ready for the network: its inputs, the actuals (N, H) with NaN where missing, and scales (N, 1, 1)."""

    inputs: Inputs
    actual: Tensor
    scale: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        *tensors, static, state = self.inputs
        value, observed, time, length, emit = (t.to(device) for t in tensors)
        static = static.to(device) if static is not None else None
        inputs = (value, observed, time, length, emit, static, [s.to(device) for s in state])
        return Batch(inputs, self.actual.to(device), self.scale.to(device))


@dataclass
class Lanes:
    """Carried windows: each row of a batch goes through a stream chunk by chunk, its state handed on.

    chosen  (B,)  which example
    begin   (B,)  where its next chunk begins
    state   of each row after its last chunk; None before the first
    """

    chosen: npt.NDArray[np.int64]
    begin: npt.NDArray[np.int64]
    state: list[Tensor] | None = None


class Sampler:
    """Draws windows: a stream by the root of its number of training steps, a start in it, origins in the window.

    A window's leads end inside the training part. Before a stream's start the past is missing, so fresh
    starts are learned as they come. Windows of a batch have similar lengths: the first draw says which.
    With `training.windows: carried` a row goes on where its last window ended, with the state that it left.
    """

    def __init__(
        self, config: Config, examples: Sequence[Example], words: dict[str, tuple[str, ...]],
        random: np.random.Generator, batch: int | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.horizon, self.memory = config.training, config.horizon, config.memory_steps
        self.batch = batch or config.training.batch
        self.examples = [e for e in examples if e.parts.train > config.horizon + 1]
        if not self.examples:
            raise ConfigError(f"split: the training part of no stream holds {config.horizon + 2} steps; move its end")
        self.codes = static_codes([e.series for e in self.examples], words)
        self.sizes = np.array([e.parts.train for e in self.examples])
        self.weights = np.sqrt(self.sizes)  # between by steps, which starves short streams, and all alike
        self.random = random
        self.lanes: Lanes | None = None

    def draw(self, network: Forecaster) -> Batch:
        """One batch of windows, each with the state its past leaves."""
        if self.settings.windows == "carried":
            return self._carried(network)
        chosen = self._streams()
        last_origin = self.sizes[chosen] - self.horizon  # origins lie before it
        length = np.minimum(self.settings.window, last_origin)
        begin = self.random.integers(0, last_origin - length + 1)
        return self._batch(chosen, begin, length, self._remembered(network, chosen, begin), np.ones(len(chosen), bool))

    def carry(self, state: Sequence[Tensor]) -> None:
        """The state that the last batch left, for the rows that go on."""
        if self.lanes is not None:
            self.lanes.state = [s.detach().cpu() for s in state]

    def state(self) -> dict[str, Any]:
        """All that decides the draws to come, as plain values and tensors."""
        lanes = self.lanes
        kept = None if lanes is None else [torch.from_numpy(lanes.chosen), torch.from_numpy(lanes.begin), lanes.state]
        return {"random": self.random.bit_generator.state, "lanes": kept}

    def restore(self, saved: dict[str, Any]) -> None:
        """Take up what `state` said."""
        self.random.bit_generator.state = saved["random"]
        if (kept := saved["lanes"]) is not None:
            self.lanes = Lanes(kept[0].numpy(), kept[1].numpy(), kept[2])

    def _streams(self) -> Indices:
        """The batch's streams by the root of their training steps, all about as long as the first one drawn."""
        share = self.weights / self.weights.sum()
        first = self.random.choice(len(share), p=share)
        length = np.minimum(self.sizes - self.horizon, self.settings.window)
        alike = np.where(np.log2(length).round() == np.log2(length[first]).round(), share, 0.0)
        return self.random.choice(len(share), self.batch, p=alike / alike.sum())

    def _carried(self, network: Forecaster) -> Batch:
        if self.lanes is None:
            self.lanes = Lanes(np.zeros(self.batch, np.int64), np.full(self.batch, self.sizes.max()))
        lanes, chosen, begin = self.lanes, self.lanes.chosen, self.lanes.begin
        ended = begin + self.settings.warmup >= self.sizes[chosen] - self.horizon
        if ended.any():
            chosen, begin = chosen.copy(), begin.copy()
            chosen[ended] = self.random.choice(len(self.sizes), int(ended.sum()), p=self.weights / self.weights.sum())
            room = self.sizes[chosen] - self.horizon - self.settings.window
            begin[ended] = self.random.integers(0, np.maximum(room, 0) + 1)[ended]
        fresh = self._remembered(network, chosen, begin)
        state = fresh
        if lanes.state is not None:
            rows = torch.from_numpy(ended)
            state = [
                torch.where(rows.reshape(-1, *[1] * (f.ndim - 1)), f, k)
                for f, k in zip(fresh, lanes.state, strict=True)
            ]
        length = np.minimum(self.settings.window, self.sizes[chosen] - self.horizon - begin)
        self.lanes = Lanes(chosen, begin + length, lanes.state)
        return self._batch(chosen, begin, length, state, ended)

    def _batch(
        self, chosen: Indices, begin: Indices, length: Indices, state: list[Tensor], cold: npt.NDArray[np.bool_]
    ) -> Batch:
        """Windows [begin, begin + length) of the examples chosen; the cold ones warm up first."""
        drawn = [self.examples[i] for i in chosen]
        series = [e.series for e in drawn]
        block = block_of(series, begin, length, self.codes[chosen])
        origins = [self._origins(int(n), bool(c)) for n, c in zip(length, cold, strict=True)]
        actual = [targets(s, a + o, self.horizon) for s, a, o in zip(series, begin, origins, strict=True)]
        scale = np.repeat([e.scale for e in drawn], [len(o) for o in origins])
        emit = torch.from_numpy(np.concatenate([i * block.time.shape[1] + o for i, o in enumerate(origins)]))
        value, observed, time, length_, static = map(
            torch.from_numpy, (block.value, block.observed, block.time, block.length, block.static)
        )
        observed = observed * self._kept(*block.time.shape)[:, :, None]
        inputs = (value * observed, observed, time, length_, emit, static if static.shape[1] else None, state)
        return Batch(inputs, torch.from_numpy(np.concatenate(actual)), torch.from_numpy(scale)[:, None, None])

    def _remembered(self, network: Forecaster, chosen: Indices, begin: Indices) -> list[Tensor]:
        """The state that the values before each window leave, some of them hidden."""
        value, observed = _past([self.examples[i].series for i in chosen], begin, self.memory)
        kept = self._kept(*observed.shape)
        with torch.no_grad():
            return [s.cpu() for s in network.remember(torch.from_numpy(value), torch.from_numpy(observed) * kept)]

    def _origins(self, length: int, cold: bool) -> Indices:
        """Steps of a window whose forecasts are scored; a stream too short to warm up is scored from its first."""
        first = self.settings.warmup if cold and length > self.settings.warmup else 0
        count = min(self.settings.origins, length - first)
        return np.sort(self.random.choice(np.arange(first, length), count, replace=False))

    def _kept(self, rows: int, steps: int) -> Tensor:
        """(rows, steps): 0 where an observation is hidden, so that missing values are nothing new to the network."""
        share = self.settings.hide * (self.random.random((rows, 1)) < HIDDEN_WINDOWS)
        return torch.from_numpy((self.random.random((rows, steps)) >= share).astype(np.float32))


def examples_of(config: Config, series: Sequence[Series]) -> list[Example]:
    """Each series with its parts, and the naive error of its training part, in stream units, as the unit of its loss.

    A stream without such an error, constant or too short, has its largest |value| as unit; one that begins after the
    training part, that of its validation part, for it is validated on; or 1.
    Raises ConfigError where the split's borders are out of order.
    """
    examples = []
    for s in series:
        borders = parts(s, config.split)
        history = s.target[: borders.train]
        season = config.seasons[0] if config.step_ms is not None and config.seasons else own_season(s, borders.train)
        scale = seasonal_naive_error(history, season)
        if not scale > 0:  # constant, or too short: any positive unit keeps its loss finite
            scale = _largest(history) or _largest(s.target[: borders.validation]) or 1.0
        examples.append(Example(s, borders, scale))
    return examples


def _largest(values: Numbers) -> float:
    return float(np.nanmax(np.abs(values), initial=0.0))


def digest_of(examples: Sequence[Example]) -> str:
    """`sha256:…` of all that a fit sees: names, categories, borders, and every step before the test parts."""
    digest = hashlib.sha256()
    for e in examples:
        known = slice(0, e.parts.validation)
        digest.update(repr((e.series.stream, e.series.static, e.parts.train, e.parts.validation)).encode())
        for numbers in (e.series.time, e.series.value, e.series.observed):
            digest.update(np.ascontiguousarray(numbers[known]).data)
    return f"sha256:{digest.hexdigest()}"


def statistics_of(config: Config, examples: Sequence[Example]) -> Statistics:
    """Mean and standard deviation of each of the P covariates over the training parts, in the covariate's units.

    One stream is looked at after another, so they need not fit in memory together. A covariate that was never
    observed has mean 0, and one that never moved deviation 1, for it is divided by.
    """
    if not config.data.covariates:
        return Statistics()

    def total(term: Callable[[Numbers, Numbers], Numbers]) -> Numbers:
        """The sum over all steps (P,) of a term of values and masks (n, P)."""
        known = ((e.series.value[: e.parts.train, 1:], e.series.observed[: e.parts.train, 1:]) for e in examples)
        whole: Numbers = np.sum([term(value, seen.astype(float)).sum(axis=0) for value, seen in known], axis=0)
        return whole

    count = np.maximum(total(lambda _, seen: seen), 1)
    mean = total(lambda value, seen: value * seen) / count
    deviation = np.sqrt(total(lambda value, seen: (value - mean) ** 2 * seen) / count)
    still = deviation <= STILL * np.abs(mean)
    return Statistics(mean.tolist(), np.where(still, 1.0, deviation).tolist())


def _past(
    series: Sequence[Series], begin: npt.NDArray[np.int64], steps: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """Target and mask (B, steps) before each window, missing before a stream's start."""
    value, observed = np.zeros((len(series), steps)), np.zeros((len(series), steps), np.float32)
    for row, (s, a) in enumerate(zip(series, begin, strict=True)):
        n = min(steps, int(a))
        value[row, steps - n :], observed[row, steps - n :] = s.value[a - n : a, 0], s.observed[a - n : a, 0]
    return value, observed
