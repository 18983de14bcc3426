"""The forecaster: one module that is trained, and exported as the model contract's graph.

    value, time ─► memory ─► features ─► RNN / GRU / LSTM ─► emitted rows ─► head ─► quantiles
                     │                                            ▲
                     └────────── window, level and scales ────────┘

Scaling, calendar, seasonal memory, gate and inverse scaling are all in here, so serving has no second
version of them. The state of a stream is its ring, its anchor and the recurrent state; all zeros is a
stream never seen.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from streamer.core.contract import Manifest
from training.attention import Attention
from training.config import Config
from training.head import Head
from training.memory import Memory, Recall
from training.recurrence import Recurrence

PERIODS_MS = {"day": 86_400_000, "week": 604_800_000, "year": 31_556_952_000}  # the Gregorian mean year


class Statistics(NamedTuple):
    """Mean and standard deviation (P,) of each past covariate over the training part, fixed in the graph."""

    mean: Sequence[float] = ()
    deviation: Sequence[float] = ()


NO_COVARIATES = Statistics()


class Forecaster(nn.Module):
    """Advances B streams by up to T steps; inputs, outputs and state are the model contract's (version 1).

    config      the whole configuration
    statistics  of the covariates
    vocabulary  values of each static category, in code order (code 1 first)
    """

    def __init__(
        self, config: Config, statistics: Statistics = NO_COVARIATES, vocabulary: Mapping[str, Sequence[str]] = {}
    ) -> None:  # fmt: skip
        super().__init__()
        model = config.model
        lags = (1, *config.seasons)
        self.periods = [PERIODS_MS[name] for name in config.calendar]
        self.memory = Memory(config.memory_steps, lags)
        self.covariates = len(config.data.covariates)
        self.embeddings = nn.ModuleList(
            nn.Embedding(len(v) + 1, model.embedding, padding_idx=0) for v in vocabulary.values()
        )
        context = len(lags) + 2 * len(self.periods) + model.embedding * len(self.embeddings)
        inputs = 4 * len(lags) + 2 * self.covariates + context
        self.recurrence = Recurrence(model.cell, inputs, model.hidden, model.layers, model.dropout)
        self.attention = Attention(model.hidden, model.attention, model.note) if model.attention else None
        sizes = (model.hidden + (model.note if model.attention else 0), context)
        self.head = Head(sizes, lags, config)
        self.covariate_mean: Tensor
        self.covariate_deviation: Tensor
        self.register_buffer("covariate_mean", torch.tensor(statistics.mean, dtype=torch.float64))
        self.register_buffer("covariate_deviation", torch.tensor(statistics.deviation, dtype=torch.float64))
        self._hidden_shape = (model.layers * model.hidden,)
        self.remembers = "recurrence" not in model.without

    @classmethod
    def of(cls, config: Config, manifest: Manifest) -> "Forecaster":
        """An untrained network shaped for weights that are to be loaded."""
        blank = [0.0] * len(config.data.covariates)
        return cls(config, Statistics(blank, blank), dict(manifest.static))

    @property
    def idles(self) -> bool:
        """Whether parts that were left out still hold parameters, which then get no gradient."""
        return not self.remembers or not sum(self.head.split)

    @property
    def state_specs(self) -> tuple[tuple[str, torch.dtype, tuple[int, ...]], ...]:
        """Name, type and shape without B of each state tensor, in the order of `forward`."""
        recurrent = tuple((name, torch.float32, self._hidden_shape) for name in self.recurrence.state_names)
        notes = (
            () if self.attention is None else (("notes", torch.float32, (self.attention.span * self.attention.width,)),)
        )
        return (*self.memory.state_specs, *recurrent, *notes)

    def fresh_state(self, streams: int) -> list[Tensor]:
        """The state of streams never seen."""
        device = self.head.stretch.device
        return [torch.zeros((streams, *shape), dtype=dtype, device=device) for _, dtype, shape in self.state_specs]

    def forward(
        self, value: Tensor, observed: Tensor, time: Tensor, length: Tensor, emit: Tensor, static: Tensor | None,
        state: Sequence[Tensor],
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Quantiles (N, H, Q) float32 in stream units, and the state after step `length`; see the contract.

        value (B, T, 1+P) float64, observed (B, T, 1+P) float32, time (B, T) int64, length (B,) int64,
        emit (N,) int64, static (B, C) int64 or None where C = 0, state as `state_specs`
        """
        remembered, hidden = state[:3], state[3 : 3 + len(self.recurrence.state_names)]
        steps = value.shape[1]
        real = (torch.arange(steps, device=value.device) < length.unsqueeze(1)).float()
        observed = observed * real.unsqueeze(2)
        seen = observed[..., 0]
        with torch.autocast(value.device.type, enabled=False) if not torch.compiler.is_exporting() else nullcontext():
            recall = self.memory.extend(value[..., 0], seen, remembered)  # counts and levels need all their digits
        context = self._context(recall, time, static)
        inputs = torch.cat((self._inputs(recall, seen), *self._covariates(value, observed), context), dim=2)
        output, following = self.recurrence(inputs, length, hidden)
        if not self.remembers:
            output = torch.zeros_like(output)
        if self.attention is not None:
            seen_before, notes = self.attention(output, length, state[-1])
            output, following = torch.cat((output, seen_before), dim=2), [*following, notes]
        quantiles = self._forecast(recall, torch.cat((output, context), dim=2), emit)
        return quantiles, [*self.memory.keep(recall, seen, length, remembered), *following]

    def remember(self, value: Tensor, observed: Tensor) -> list[Tensor]:
        """The state of streams whose last steps were these (B, T), with a recurrent state that saw nothing.

        What training starts its windows from: the ring filled, the recurrence to be warmed up.
        """
        state = self.fresh_state(len(value))
        value, observed = value.to(state[0].device), observed.to(state[0].device)
        recall = self.memory.extend(value, observed, state[:3])
        length = torch.full((len(value),), value.shape[1], device=value.device)
        return [*self.memory.keep(recall, observed, length, state[:3]), *state[3:]]

    def _inputs(self, recall: Recall, seen: Tensor) -> Tensor:
        """Where each step lies in its window, and how it moved, in units of spread and of each lag's change."""
        size, steps = self.memory.steps, seen.shape[1]
        now, level, spread = recall.line[:, size:], recall.level, recall.spread
        features = [seen, (now - level) * seen / spread]
        for lag, change in zip(self.memory.lags, recall.changes, strict=True):
            before = slice(size - lag, size - lag + steps)
            both = seen * recall.seen[:, before]
            features += [both, (now - recall.line[:, before]) * both / change]
            if lag > 1:  # the season's next value: where the stream is likely to go
                ahead = slice(size - lag + 1, size - lag + 1 + steps)
                known = recall.seen[:, ahead]
                features += [known, (recall.line[:, ahead] - level) * known / spread]
        return _compressed(torch.stack(features, dim=2))

    def _context(self, recall: Recall, time: Tensor, static: Tensor | None) -> Tensor:
        """What is known of a step besides its values: relative scales, calendar, categories; (B, T, context)."""
        features = [torch.log(torch.stack(recall.changes, dim=2) / recall.spread.unsqueeze(2))]
        if self.periods:
            period = torch.tensor(self.periods, device=time.device)
            phase = (time.unsqueeze(2) % period).double() / period  # float64: a time in milliseconds has 41 bits
            angle = (phase * (2 * math.pi)).float()
            features += [angle.sin(), angle.cos()]
        if static is not None:
            codes = [table(static[:, i]) for i, table in enumerate(self.embeddings)]
            features.append(torch.cat(codes, dim=1).unsqueeze(1).expand(-1, time.shape[1], -1))
        return torch.cat(features, dim=2)

    def _covariates(self, value: Tensor, observed: Tensor) -> list[Tensor]:
        if not self.covariates:
            return []
        scaled = (value[..., 1:] - self.covariate_mean) / self.covariate_deviation
        return [_compressed(scaled.float()) * observed[..., 1:], observed[..., 1:]]

    def _forecast(self, recall: Recall, features: Tensor, emit: Tensor) -> Tensor:
        """The head on the emitted rows only."""
        steps = features.shape[1]
        row = torch.div(emit, steps, rounding_mode="trunc")
        window = self.memory.windows(recall.line, row, emit - row * steps)
        scales = [recall.level, recall.spread, *recall.changes]
        emitted = torch.stack(scales, dim=2).reshape(-1, len(scales)).index_select(0, emit)
        features = features.reshape(-1, features.shape[2]).index_select(0, emit)
        origin = recall.origin.reshape(-1).index_select(0, emit).unsqueeze(1)
        coarse = origin.float()
        fine = (origin - coarse.double()).float()  # added to the small numbers, where float32 still resolves it
        relative: Tensor = self.head(features, window, torch.split(emitted, 1, dim=1), fine)
        absolute = relative + coarse
        return absolute.reshape(-1, self.head.levels, self.head.horizon).transpose(1, 2)


def _compressed(x: Tensor) -> Tensor:
    """Signed roots, x / √(1 + |x|): an outlier keeps its rank and its sign, and drowns nothing."""
    return x / (1 + x.abs()).sqrt()
