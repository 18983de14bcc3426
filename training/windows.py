"""Training's examples: windows drawn at random from the training part, each with the state its past leaves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamer.core.contract import Block
from streamer.core.scoring import seasonal_naive_error
from streamer.errors import ConfigError
from training.config import Config
from training.data import Parts, Series, parts, static_codes
from training.network import Forecaster, Statistics
from training.stepping import block_of, targets

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, list[Tensor]]  # of the network, in order
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
        series = [e.series for e in drawn]
        last_origin = np.array([e.parts.train - self.horizon for e in drawn])  # origins lie before it
        length = np.minimum(self.settings.window, last_origin)
        begin = self.random.integers(0, last_origin - length + 1)
        block = block_of(series, begin, length, self.codes[chosen])
        origins = [self._origins(int(n)) for n in length]
        actual = [targets(s, a + o, self.horizon) for s, a, o in zip(series, begin, origins, strict=True)]
        scale = np.repeat([e.scale for e in drawn], [len(o) for o in origins])
        block = replace(block, emit=np.concatenate([i * block.time.shape[1] + o for i, o in enumerate(origins)]))
        inputs = self._inputs(network, block, *_past(series, begin, self.memory))
        return Batch(inputs, torch.from_numpy(np.concatenate(actual)), torch.from_numpy(scale)[:, None, None])

    def _inputs(
        self,
        network: Forecaster,
        block: Block,
        past_value: npt.NDArray[np.float64],
        past_observed: npt.NDArray[np.float32],
    ) -> Inputs:
        """The block as tensors, some of its observations and of its past's hidden."""
        kept = torch.from_numpy(self._kept(len(block.length), self.memory + block.time.shape[1]))
        value, observed = torch.from_numpy(block.value), torch.from_numpy(block.observed)
        observed = observed * kept[:, self.memory :, None]
        with torch.no_grad():
            state = network.remember(
                torch.from_numpy(past_value), torch.from_numpy(past_observed) * kept[:, : self.memory]
            )
        time, length, emit = map(torch.from_numpy, (block.time, block.length, block.emit))
        static = torch.from_numpy(block.static) if block.static.shape[1] else None
        return value * observed, observed, time, length, emit, static, state

    def _origins(self, length: int) -> npt.NDArray[np.int64]:
        """Steps of a window whose forecasts are scored; a stream too short to warm up is scored from its first."""
        first = self.settings.warmup if length > self.settings.warmup else 0
        count = min(self.settings.origins, length - first)
        return np.sort(self.random.choice(np.arange(first, length), count, replace=False))

    def _kept(self, rows: int, steps: int) -> npt.NDArray[np.float32]:
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
