"""Scores of forecasts: per stream, per lead, and their means over the streams."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from streamer.core.scoring import crossing, mase, pinball_loss, smape

Floats = npt.NDArray[np.floating]
MEAN = "mean"


@dataclass(frozen=True)
class Outcome:
    """What one forecaster said of one stream, and what came.

    actual     (n, H)     stream units, NaN where missing
    predicted  (n, H, Q)  quantiles, stream units
    levels     (Q,)       increasing
    scale      the stream's seasonal-naive error before the test part
    """

    stream: str
    forecaster: str
    actual: Floats
    predicted: Floats
    levels: tuple[float, ...]
    scale: float


@dataclass(frozen=True)
class Score:
    """One forecaster's scores on one stream, or their mean over the streams; at one lead, or over all.

    lead      0 is all leads
    sql       scaled quantile loss: mean pinball loss, doubled, over the train part's seasonal-naive error
    mase      of the level nearest to the median
    smape     percent
    coverage  share of actuals between the lowest and the highest level
    width     of that interval, in units of the naive error
    crossing  share of neighbouring quantiles in the wrong order
    below     per level, the share of actuals at or below its quantile: the level itself, where calibrated
    widths    per central interval (lowest to highest level, then inwards), in units of the naive error
    """

    stream: str
    forecaster: str
    forecasts: int
    sql: float
    mase: float
    smape: float
    coverage: float
    width: float
    crossing: float
    below: tuple[float, ...]
    widths: tuple[float, ...]
    lead: int = 0

    @property
    def coverages(self) -> tuple[float, ...]:
        """Share of actuals inside each central interval, in the order of `widths`."""
        return tuple(self.below[-1 - i] - self.below[i] for i in range(len(self.below) // 2))


def scored(outcome: Outcome) -> list[Score]:
    """The outcome's scores over all leads, then at each lead."""
    horizon = outcome.actual.shape[1]
    whole = _score(outcome)
    at_leads = (
        _score(replace(outcome, actual=outcome.actual[:, h : h + 1], predicted=outcome.predicted[:, h : h + 1]))
        for h in range(horizon)
    )
    return [whole, *(replace(s, lead=h + 1) for h, s in enumerate(at_leads))]


def means(scores: Iterable[Score]) -> list[Score]:
    """The mean over the streams of each forecaster at each lead; unknown (NaN) scores are left out."""
    groups: dict[tuple[str, int], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.forecaster, score.lead), []).append(score)
    return [_mean(rows) for rows in groups.values()]


def _score(outcome: Outcome) -> Score:
    """Origins and leads where a naive forecast has nothing to say count for no one's loss but its own."""
    predicted, levels, scale = outcome.predicted, np.array(outcome.levels), outcome.scale
    actual = np.where(np.isnan(predicted).any(axis=2), np.nan, outcome.actual)
    median = predicted[..., int(np.argmin(np.abs(levels - 0.5)))]
    seen = ~np.isnan(actual)
    below = _shares_below(actual, predicted, seen)
    pairs = [(i, len(levels) - 1 - i) for i in range(len(levels) // 2)]
    widths = tuple(_mean_of((predicted[..., j] - predicted[..., i])[seen]) / (scale or np.nan) for i, j in pairs)
    inside = (actual >= predicted[..., 0]) & (actual <= predicted[..., -1])
    return Score(
        outcome.stream, outcome.forecaster, len(actual),
        sql=2 * pinball_loss(actual, predicted, levels) / scale if scale > 0 else float("nan"),
        mase=mase(actual, median, scale), smape=smape(actual, median), coverage=_mean_of(inside[seen]),
        width=widths[0] if widths else 0.0, crossing=crossing(predicted), below=below, widths=widths,
    )  # fmt: skip


def _shares_below(actual: Floats, predicted: Floats, seen: npt.NDArray[np.bool_]) -> tuple[float, ...]:
    return tuple(_mean_of((actual <= predicted[..., q])[seen]) for q in range(predicted.shape[2]))


def _mean_of(values: npt.NDArray[np.generic]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _mean(rows: Sequence[Score]) -> Score:
    numbers = {f.name: _known_mean([getattr(r, f.name) for r in rows]) for f in fields(Score) if f.type is float}
    vectors = {name: _vector_mean([getattr(r, name) for r in rows]) for name in ("below", "widths")}
    forecasts = sum(r.forecasts for r in rows)
    return replace(rows[0], stream=MEAN, forecasts=forecasts, **numbers, **vectors)  # type: ignore[arg-type]


def _known_mean(values: Sequence[float]) -> float:
    known = [v for v in values if v == v]
    return float(np.mean(known)) if known else float("nan")


def _vector_mean(rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(_known_mean(column) for column in zip(*rows, strict=True))
