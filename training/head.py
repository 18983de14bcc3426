"""The head: from a hidden state and a stream's window to quantiles that cannot cross.

    median  =  Σ gate · base  +  linear skip over seasonal differences  +  unit · network
    others  =  median ± cumulated positive widths · unit

The bases are what a naive forecaster would say: the last value, and the value one season before each lead.
A gate per lead mixes them, and mixes their scales into the unit in the same proportion, so a forecast that
follows the season is corrected in seasonal-difference units, however large the level's are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.config import Config

FALLBACK_SEASONS = 2  # seasons searched back for a lead's base before the last value stands in


class Head(nn.Module):
    """Quantiles for the emitted rows.

    sizes   of the recurrent output and of the other features per row
    lags    of the bases, the first 1 (last value), the rest seasons
    config  horizon, levels, the inner layer, and which parts are left out
    """

    def __init__(self, sizes: tuple[int, int], lags: Sequence[int], config: Config) -> None:
        super().__init__()
        model, levels, width = config.model, config.levels, config.model.head
        self.lags, self.window, self.horizon = tuple(lags), config.memory_steps, config.horizon
        self.levels, self.without = len(levels), frozenset(model.without)
        self.middle = min(range(len(levels)), key=lambda i: abs(levels[i] - 0.5))
        self.seasons = [m for m in self.lags if m > 1]
        self.split = [0 if "window" in self.without else width, 0 if "skip" in self.without else self.horizon]
        past = 0 if "window" in self.without else self.window
        self.inner = nn.Linear(sum(sizes) + past, width)
        self.dropout = nn.Dropout(model.dropout)
        layers = [nn.Linear(self.window - m, sum(self.split), bias=False) for m in self.seasons or [1]]
        self.differences = nn.ModuleList(layers)  # each gives the inner layer its share, and the linear skip
        gated = self.seasons and "gate" not in self.without
        self.gate = nn.Linear(width, len(self.seasons) * self.horizon) if gated else None
        self.outer = nn.Linear(width, self.levels * self.horizon)
        self.sizes = [sum(sizes), past]
        self.stretch: Tensor  # of all widths, set once training is over: see `training.fit`
        self.register_buffer("stretch", torch.ones(1))
        self._start(levels, layers)

    def _start(self, levels: Sequence[float], differences: Sequence[nn.Linear]) -> None:
        """Start as a naive forecast with the widths of a normal error; the inner layer's shares as one layer's."""
        steps = torch.special.ndtri(torch.tensor(levels)).diff().clamp(min=1e-3)
        bias = torch.zeros(self.levels, self.horizon)
        bias[torch.arange(self.levels) != self.middle] = _inverse_positive(steps).unsqueeze(1)
        with torch.no_grad():
            for layer in differences:
                layer.weight[: self.split[0]].mul_((layer.in_features / self.inner.in_features) ** 0.5)
                layer.weight[self.split[0] :].zero_()
            self.outer.weight.mul_(0.1)
            self.outer.bias.copy_(bias.flatten())
            if self.gate is not None:
                self.gate.weight.mul_(0.1)

    def forward(self, features: Tensor, window: Tensor, scales: tuple[Tensor, ...], add: Tensor) -> Tensor:
        """Quantiles (N, Q·H), level by level, relative to what the window is relative to.

        features  (N, D + context)
        window    (N, R)  newest value last, 0 where missing
        scales    level, spread and each lag's change, all (N, 1)
        add       (N, 1)  added to each
        """
        level, spread, *changes = scales
        seen = window.bool().float()
        of_features, of_window = torch.split(self.inner.weight, self.sizes, dim=1)
        inner, skip = nn.functional.linear(features, of_features, self.inner.bias), add
        if "window" not in self.without:  # in units of spread, divided where there are fewer numbers
            inner = inner + nn.functional.linear((window - level) * seen, of_window) / spread
        own = changes[-len(self.differences) :]
        for lag, layer, change in zip(self.seasons or [1], self.differences, own, strict=True):
            if sum(self.split):
                share, ahead = torch.split(layer(self._difference(window, seen, lag)), self.split, dim=1)
                inner = inner + share / change if self.split[0] else inner
                skip = skip + ahead if self.split[1] else skip  # linear in the values, so in stream units
        inner = self.dropout(nn.functional.relu(inner))
        gates = self._gates(inner)
        base = _mixed(gates, self._bases(window, seen, level))
        return self._spread_out(self.outer(inner), base + skip, _mixed(gates, changes))

    def _difference(self, window: Tensor, seen: Tensor, lag: int) -> Tensor:
        return (window[:, lag:] - window[:, :-lag]) * (seen[:, lag:] * seen[:, :-lag])

    def _gates(self, inner: Tensor) -> list[Tensor]:
        """How far each season's base (N, H) replaces the mixture of those before it, the last value first.

        Sigmoids in a row: the same mixtures as a softmax, at a fifth of its cost on short axes.
        """
        if self.gate is not None:
            return list(torch.split(self.gate(inner).sigmoid(), self.horizon, dim=1))
        first = torch.ones(1, 1, device=inner.device)  # without a gate, the shortest season is followed
        return [first, *(torch.zeros_like(first) for _ in self.seasons[1:])] if self.seasons else []

    def _bases(self, window: Tensor, seen: Tensor, level: Tensor) -> list[Tensor]:
        """For each lag what it says of each lead, (N, H) or (N, 1): the value a whole number of lags before it."""
        place = torch.arange(1, self.window + 1, device=window.device, dtype=torch.float32)
        latest = (seen * place).amax(dim=1, keepdim=True)
        last = torch.where(latest > 0, window.gather(1, (latest - 1).clamp(min=0).long()), level)
        bases = [last]
        for lag in self.seasons:
            season, leads = last, min(lag, self.horizon)
            for back in range(min(FALLBACK_SEASONS, self.window // lag), 0, -1):
                begin = self.window - back * lag
                missing = 1 - seen[:, begin : begin + leads]  # where the window is 0; onnxruntime's Where is slow
                season = window[:, begin : begin + leads] + missing * season
            repeats = -(-self.horizon // lag)
            bases.append(torch.cat([season] * repeats, dim=1)[:, : self.horizon] if repeats > 1 else season)
        return bases

    def _spread_out(self, out: Tensor, centre: Tensor, unit: Tensor) -> Tensor:
        """Increasing by construction: sums of positive widths, away from the median on either side."""
        median = centre + out[:, self.middle * self.horizon : (self.middle + 1) * self.horizon] * unit
        if self.levels == 1:
            return median
        widths = torch.split(_twice_positive(out), self.horizon, dim=1)
        unit = unit * (0.5 * self.stretch)
        quantiles = [median]
        for width in reversed(widths[: self.middle]):
            quantiles.insert(0, quantiles[0] - width * unit)
        for width in widths[self.middle + 1 :]:
            quantiles.append(quantiles[-1] + width * unit)
        return torch.cat(quantiles, dim=1)


def _mixed(gates: Sequence[Tensor], parts: Sequence[Tensor]) -> Tensor:
    """What the gates make of one part per lag, the first being the last value's."""
    mixed = parts[0]
    for gate, part in zip(gates, parts[1:], strict=True):
        mixed = mixed + gate * (part - mixed)
    return mixed


def _twice_positive(x: Tensor) -> Tensor:
    """Twice squareplus, x + √(x² + 4): as smooth as softplus, without its exponential and logarithm."""
    return x + (x * x + 4).sqrt()


def _inverse_positive(y: Tensor) -> Tensor:
    return y - 1 / y
