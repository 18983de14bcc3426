"""The head: from a hidden state and a stream's window to quantiles that cannot cross.

    median  =  Σ gate · base  +  linear skip over seasonal differences  +  unit · network
    others  =  median ± cumulated positive widths · unit

The bases are what a naive forecaster would say: the last value, and the value one season before each lead.
A softmax gate per lead mixes them, and mixes their scales into the unit in the same proportion, so a
forecast that follows the season is corrected in seasonal-difference units, however large the level's are.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

FALLBACK_SEASONS = 3  # seasons searched back for a lead's base before the last value stands in


class Head(nn.Module):
    """Quantiles for the emitted rows.

    hidden, context   sizes of the recurrent output and of the other features per row
    window, lags      values R remembered; lags of the bases, the first 1 (last value), the rest seasons
    horizon, levels   leads H and quantile levels (Q of them)
    width, dropout    the inner layer
    """

    def __init__(
        self, sizes: tuple[int, int], window: int, lags: Sequence[int], horizon: int, levels: Sequence[float],
        width: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.lags, self.window, self.horizon, self.levels = tuple(lags), window, horizon, len(levels)
        self.middle = min(range(len(levels)), key=lambda i: abs(levels[i] - 0.5))
        self.seasons = [m for m in self.lags if m > 1]
        differences = sum(window - m for m in self.seasons or [1])
        self.inner = nn.Linear(sum(sizes) + window + differences, width)
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Linear(differences, horizon, bias=False)
        self.gate = nn.Linear(width, len(self.lags) * horizon)
        self.outer = nn.Linear(width, horizon * self.levels)
        self._start(levels)

    def _start(self, levels: Sequence[float]) -> None:
        """Start as a seasonal-naive forecast with the widths of a normal error."""
        nn.init.zeros_(self.skip.weight)
        bias = torch.zeros(self.horizon, self.levels)
        steps = torch.special.ndtri(torch.tensor(levels)).diff().clamp(min=1e-3)
        bias[:, torch.arange(self.levels) != self.middle] = _inverse_positive(steps)
        with torch.no_grad():
            self.outer.weight.mul_(0.1)
            self.outer.bias.copy_(bias.flatten())
            self.gate.weight.mul_(0.1)

    def forward(self, features: Tensor, window: Tensor, scales: tuple[Tensor, ...]) -> Tensor:
        """Quantiles (N, H, Q), relative to the anchor as the window is.

        features  (N, D + context)
        window    (N, R)  values relative to the anchor, newest last, 0 where missing
        scales    level, spread and each lag's change, all (N, 1)
        """
        level, spread, *changes = scales
        seen = (window != 0).float()
        differences = [self._difference(window, seen, m) for m in self.seasons or [1]]
        own = changes[-len(differences) :]
        inputs = [features, (window - level) * seen / spread]
        inputs += [d / c for d, c in zip(differences, own, strict=True)]
        inner = self.dropout(nn.functional.relu(self.inner(torch.cat(inputs, dim=1))))
        gate = self.gate(inner).reshape(-1, len(self.lags), self.horizon).softmax(dim=1)
        bases = self._bases(window, seen, level)
        unit = sum(gate[:, i] * c for i, c in enumerate(changes))
        base = sum(gate[:, i] * b for i, b in enumerate(bases))
        skip = self.skip(torch.cat(differences, dim=1) / own[0]) * own[0]
        out = self.outer(inner).reshape(-1, self.horizon, self.levels)
        return self._spread_out(out, (base + skip).unsqueeze(2), unit.unsqueeze(2))

    def _difference(self, window: Tensor, seen: Tensor, lag: int) -> Tensor:
        return (window[:, lag:] - window[:, :-lag]) * seen[:, lag:] * seen[:, :-lag]

    def _bases(self, window: Tensor, seen: Tensor, level: Tensor) -> list[Tensor]:
        """For each lag what it says of each lead (N, H): the value a whole number of lags before it."""
        place = torch.arange(1, self.window + 1, device=window.device, dtype=torch.float32)
        latest = (seen * place).argmax(dim=1, keepdim=True)
        last = torch.where(seen.amax(dim=1, keepdim=True) > 0, window.gather(1, latest), level)
        bases = [last.expand(-1, self.horizon)]
        for lag in self.seasons:
            base = bases[0]
            for season in reversed(range(FALLBACK_SEASONS)):
                places = [self.window - 1 + h - lag * (math.ceil(h / lag) + season) for h in range(1, self.horizon + 1)]
                if min(places) >= 0:
                    earlier = window.index_select(1, torch.tensor(places, device=window.device))
                    base = torch.where(earlier != 0, earlier, base)
            bases.append(base)
        return bases

    def _spread_out(self, out: Tensor, centre: Tensor, unit: Tensor) -> Tensor:
        """Increasing by construction: sums of positive widths, away from the median on either side."""
        median = centre + out[..., self.middle : self.middle + 1] * unit
        below, above = _positive(out[..., : self.middle]), _positive(out[..., self.middle + 1 :])
        parts = [median]
        if self.middle > 0:
            nearest_first = below.flip(-1).cumsum(-1).flip(-1)
            parts.insert(0, median - nearest_first * unit)
        if self.middle + 1 < self.levels:
            parts.append(median + above.cumsum(-1) * unit)
        return torch.cat(parts, dim=-1)


def _positive(x: Tensor) -> Tensor:
    """Squareplus, (x + √(x² + 4)) / 2: as smooth as softplus, without its exponential and logarithm."""
    return (x + (x.square() + 4).sqrt()) / 2


def _inverse_positive(y: Tensor) -> Tensor:
    return y - 1 / y
