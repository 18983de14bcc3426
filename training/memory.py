"""A stream's memory: its last R values in a ring, and the rolling level and scales taken from it.

Everything here is a function of the ring and the block's own observed values, so it needs no scan over
the steps, the same steps cut into other blocks give the same numbers, and an outlier is forgotten with
the ring. Extended by a block of T steps, the ring is a line on which each step sees its own window:

    ring        block
    r r r r r   x x x        R = 5, T = 3; after step t the window is [t + 1, t + R]

Values are kept as float32 relative to an anchor (float64): a stream's first value, moved along once the
level is far from it. Missing is 0; a true 0 is stored as TINY, so that the mask costs no state. The habit,
an exponential average of level and spread, stands in where a gap has emptied the window.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

TINY = 1e-30  # nothing in any unit, and still a normal float32
FLOAT32_STEP = 1e-7  # relative; a spread below it is rounding
PRIOR_CHANGES = 0.1  # changes of one spread that are assumed seen: a start for a lag's scale, and its floor
BESIDE = 1 - 2.0**-20  # moves the anchor beside the level: values equal to the level must not turn into 0, missing
FEW = 8  # values in a window below which its spread is not trusted alone
FAR = 64.0  # spreads between level and anchor before the anchor moves: float32 then still resolves 4e-6 of a spread


@dataclass(frozen=True)
class Recall:
    """What each step of a block remembers; stream units, relative to the anchor.

    line     (B, R + T)  float32: the ring, then the block; 0 where missing
    seen     (B, R + T)  float32: 1 where the line holds a value
    anchor   (B, 1)      float64: what the line is relative to
    origin   (B, T)      float64: what forecasts are relative to: the anchor, or 0 before a stream's first value
    level    (B, T)      mean of the window
    spread   (B, T)      its standard deviation, positive
    changes  L × (B, T)  mean |x[t] − x[t − lag]| of the window (lag 1: of its newest quarter), positive
    habit    (B, 3, T)   float64: sums of weight, weight · level (not relative), weight · spread
    """

    line: Tensor
    seen: Tensor
    anchor: Tensor
    origin: Tensor
    level: Tensor
    spread: Tensor
    changes: tuple[Tensor, ...]
    habit: Tensor


class Memory(nn.Module):
    """The ring and what is read from it.

    steps  R, the values kept; also the half-life of the habit
    lags   steps of the differences whose scales are followed, each below R
    """

    def __init__(self, steps: int, lags: Sequence[int]) -> None:
        super().__init__()
        self.steps, self.lags = steps, tuple(lags)
        self.log_decay = -math.log(2) / steps

    @property
    def state_specs(self) -> tuple[tuple[str, torch.dtype, tuple[int, ...]], ...]:
        """The states: ring; anchor, with a 1 once it is set; habit."""
        return ("ring", torch.float32, (self.steps,)), ("anchor", torch.float64, (2,)), ("habit", torch.float64, (3,))

    def extend(self, value: Tensor, observed: Tensor, state: Sequence[Tensor]) -> Recall:
        """Recall for a block.

        value     (B, T)  float64: 0 where missing
        observed  (B, T)  float32: 1 observed; 0 missing or padding
        state     ring (B, R) with the newest value last, anchor (B, 2), habit (B, 3)
        """
        ring, anchor, habit = state
        first = value.gather(1, observed.argmax(dim=1, keepdim=True))
        here = torch.where(anchor[:, 1:] > 0, anchor[:, :1], first)
        line = torch.cat((ring, _encode((value - here).float(), observed)), dim=1)
        seen = line.bool().float()
        count, level, variance = self._moments(line, seen)
        sums = self._habit(count, level + here, variance.sqrt(), habit)
        weight = sums[:, :1]
        usual_level, usual_spread = (sums[:, 1:] / torch.where(weight > 0, weight, 1.0)).unbind(1)
        origin = torch.where(sums[:, 0] > 0, here, 0.0)
        level = torch.where(count > 0, level, usual_level - origin)
        unsure = (count < FEW).double()
        variance = (count * variance + unsure * usual_spread * usual_spread) / (count + unsure)
        floor = (FLOAT32_STEP * (origin + level).abs()).clamp(min=TINY)
        spread = torch.maximum(variance.sqrt(), floor).float()
        changes = tuple(self._change(line, seen, spread, lag) for lag in self.lags)
        return Recall(line, seen, here, origin, level.float(), spread, changes, sums)

    def keep(self, recall: Recall, observed: Tensor, length: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
        """The state after step `length` (B,) of the block."""
        last = length.unsqueeze(1) - 1
        level, spread = recall.level.gather(1, last), recall.spread.gather(1, last)
        shift = torch.where(level.abs() > FAR * spread, level * BESIDE, 0.0)
        known = torch.maximum(state[1][:, 1:], observed.amax(dim=1, keepdim=True).double())
        anchor = torch.cat((recall.anchor + shift.double(), known), dim=1)
        habit = recall.habit.gather(2, last.unsqueeze(1).expand(-1, 3, -1)).squeeze(2)
        return [_cut(recall.line - shift * recall.seen, length, self.steps), anchor, habit]

    def windows(self, line: Tensor, row: Tensor, step: Tensor) -> Tensor:
        """The windows (N, R) of a line (B, R + T) after `step` (N,) of its `row` (N,), newest value last."""
        return _cut(line.index_select(0, row), step + 1, self.steps)

    def _band(self, line: Tensor, span: int) -> Tensor:
        """(span + T − 1, T): 1 where one of the line's last places lies among the `span` newest of a step."""
        steps = line.shape[1] - self.steps
        place = torch.arange(span + steps - 1, device=line.device).float().unsqueeze(1)
        step = torch.arange(steps, device=line.device).float().unsqueeze(0)
        return ((place >= step) & (place < step + span)).float()

    def _moments(self, line: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Count, mean and variance (B, T) of each window, float64; 0 where it is empty."""
        place = torch.arange(line.shape[1], device=line.device).unsqueeze(1)
        step = torch.arange(line.shape[1] - self.steps, device=line.device).unsqueeze(0)
        band = ((place > step) & (place <= step + self.steps)).float()
        exact, exact_band = line.double(), band.double()  # far from the anchor, the variance keeps its digits
        count = (seen @ band).double()
        size = count.clamp(min=1)
        level = (exact @ exact_band) / size
        variance = ((exact * exact) @ exact_band) / size - level * level
        return count, level, variance.clamp(min=0)

    def _habit(self, count: Tensor, level: Tensor, spread: Tensor, state: Tensor) -> Tensor:
        """Exponentially weighted sums (B, 3, T) over all steps so far, each window weighing by its count."""
        age = torch.arange(1, count.shape[1] + 1, device=count.device).double()
        decay = (age * self.log_decay).exp()
        parts = torch.stack((count, count * level, count * spread), dim=1)
        # one sum for all steps: float64 holds 1 / decay for a thousand half-lives
        return (torch.cumsum(parts / decay, dim=2) + state.unsqueeze(2)) * decay

    def _change(self, line: Tensor, seen: Tensor, spread: Tensor, lag: int) -> Tensor:
        span = self.steps // 4 if lag == 1 else self.steps - lag  # steps repeat often enough to be judged by fewer
        band, begin = self._band(line, span), self.steps - span + 1
        both = seen[:, begin:] * seen[:, begin - lag : -lag]
        size = (line[:, begin:] - line[:, begin - lag : -lag]).abs() * both
        return (size @ band + PRIOR_CHANGES * spread) / (both @ band + PRIOR_CHANGES)


def _encode(value: Tensor, observed: Tensor) -> Tensor:
    return torch.where(value == 0, TINY, value) * observed


def _cut(line: Tensor, begin: Tensor, steps: int) -> Tensor:
    """(N, steps): the places [begin, begin + steps) of each row of a line (N, steps + T), begin (N,) in 1…T."""

    def newest(line: Tensor, begin: Tensor) -> Tensor:
        return line[:, -steps:].clone()

    def sought(line: Tensor, begin: Tensor) -> Tensor:
        return line.gather(1, begin.unsqueeze(1) + torch.arange(steps, device=line.device))

    if torch.compiler.is_exporting():  # a block of one step has but one place to cut, and a slice is four times faster
        cut: Tensor = torch.cond(line.shape[1] == steps + 1, newest, sought, (line, begin))
        return cut
    return sought(line, begin)
