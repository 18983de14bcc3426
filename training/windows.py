"""Training's examples: windows drawn at random from the training part, each with the state its past leaves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamer.core.scoring import seasonal_naive_error
from streamer.errors import ConfigError
from training.config import Config
from training.data import Parts, Series, parts, static_codes
from training.network import Forecaster, Statistics
from training.stepping import block_of, targets

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

    inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, list[Tensor]]
    actual: Tensor
    scale: Tensor


class Sampler:
    """Draws windows: a stream by its number of training steps, a start in it, origins in the window.

    A window's leads end inside the training part. Before a stream's start the past is missing, so fresh
    starts are learned as they come.
    """

    def __init__(
        self,
        config: Config,
        examples: Sequence[Example],
        words: dict[str, tuple[str, ...]],
        random: np.random.Generator,
    ) -> None:
        self.settings, self.horizon, self.memory = config.training, config.horizon, config.memory_steps
        self.examples = [e for e in examples if e.parts.train > config.horizon + 1]
        if not self.examples:
            raise ConfigError(f"split: the training part of no stream holds {config.horizon + 2} steps; move its end")
        self.codes = static_codes([e.series for e in self.examples], words)
        sizes = np.array([e.parts.train for e in self.examples], float)
        self.share = sizes / sizes.sum()
        self.random = random

    def draw(self, network: Forecaster) -> Batch:
        """One batch of windows, each with the state its past leaves."""
        chosen = self.random.choice(len(self.examples), self.settings.batch, p=self.share)
        drawn = [self.examples[i] for i in chosen]
        last_origin = np.array([e.parts.train - self.horizon for e in drawn])  # origins lie before it
        length = np.minimum(self.settings.window, last_origin)
        begin = self.random.integers(0, last_origin - length + 1)
        series = [e.series for e in drawn]
        block = block_of(series, begin, length, self.codes[chosen])
        origins = [self._origins(int(n)) for n in length]
        width = block.time.shape[1]
        emit = np.concatenate([row * width + o for row, o in enumerate(origins)]).astype(np.int64)
        value, observed = torch.from_numpy(block.value), torch.from_numpy(block.observed)
        past_value, past_observed = map(torch.from_numpy, _past(series, begin, self.memory))
        hidden = torch.from_numpy(self._hidden(len(drawn), self.memory + width))
        observed = observed * hidden[:, self.memory :, None]
        value = value * observed
        with torch.no_grad():
            state = network.remember(past_value, past_observed * hidden[:, : self.memory])
        static = torch.from_numpy(block.static) if block.static.shape[1] else None
        actual = [targets(s, a + o, self.horizon) for s, a, o in zip(series, begin, origins, strict=True)]
        scale = np.repeat([e.scale for e in drawn], [len(o) for o in origins])
        time, length_, emitted = map(torch.from_numpy, (block.time, block.length, emit))
        return Batch(
            (value, observed, time, length_, emitted, static, state),
            torch.from_numpy(np.concatenate(actual)),
            torch.from_numpy(scale)[:, None, None],
        )  # fmt: skip

    def _origins(self, length: int) -> npt.NDArray[np.int64]:
        """Steps of a window whose forecasts are scored; a stream too short to warm up is scored from its first."""
        first = self.settings.warmup if length > self.settings.warmup else 0
        count = min(self.settings.origins, length - first)
        return np.sort(self.random.choice(np.arange(first, length), count, replace=False))

    def _hidden(self, rows: int, steps: int) -> npt.NDArray[np.float32]:
        """(rows, steps): 0 where an observation is hidden, so that missing values are nothing new to the network."""
        share = self.settings.hide * (self.random.random((rows, 1)) < HIDDEN_WINDOWS)
        return (self.random.random((rows, steps)) >= share).astype(np.float32)


def examples_of(config: Config, series: Sequence[Series]) -> list[Example]:
    season = config.seasons[0] if config.seasons else 1
    examples = []
    for s in series:
        borders = parts(s, config.split)
        history = s.target[: borders.train]
        scale = seasonal_naive_error(history, season)
        if not scale > 0:  # constant, or too short: any positive unit keeps its loss finite
            scale = float(np.nan_to_num(np.nanmax(np.abs(history), initial=0.0))) or 1.0
        examples.append(Example(s, borders, scale))
    return examples


def statistics_of(config: Config, examples: Sequence[Example]) -> Statistics:
    if not config.data.covariates:
        return Statistics()
    values = np.concatenate([e.series.value[: e.parts.train, 1:] for e in examples])
    seen = np.concatenate([e.series.observed[: e.parts.train, 1:] for e in examples]) > 0
    columns = [values[seen[:, i], i] for i in range(values.shape[1])]
    return Statistics(
        [float(c.mean()) if c.size else 0.0 for c in columns],
        [float(c.std()) or 1.0 if c.size else 1.0 for c in columns],
    )


def _past(
    series: Sequence[Series], begin: npt.NDArray[np.int64], steps: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """Target and mask (B, steps) before each window, missing before a stream's start."""
    value, observed = np.zeros((len(series), steps)), np.zeros((len(series), steps), np.float32)
    for row, (s, a) in enumerate(zip(series, begin, strict=True)):
        n = min(steps, int(a))
        value[row, steps - n :], observed[row, steps - n :] = s.value[a - n : a, 0], s.observed[a - n : a, 0]
    return value, observed
