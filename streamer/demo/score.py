"""Score the forecasts of the test months, stream by stream, beside seasonal naive."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamer.core.scoring import Floats, coverage, mase, pinball_loss, seasonal_naive_error
from streamer.demo.forecasts import ScoredForecasts
from streamer.demo.naive import SEASON, error_quantiles, seasonal_naive
from streamer.demo.year import Year

LOWER, MEDIAN, UPPER = 0.1, 0.5, 0.9  # the outer two bound the 80 % band


@dataclass(frozen=True, slots=True)
class Scores:
    """One forecaster on one stream, or the mean over several streams.

    mase      absolute error of the median (naive: of the point) over the seasonal-naive error of the history
    pinball   mean pinball loss over all levels, stream units
    coverage  share of the actuals inside the 80 % band
    """

    mase: float
    pinball: float
    coverage: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The model and seasonal naive on the same origins, leads and levels."""

    model: Scores
    naive: Scores


def compare(year: Year, forecasts: ScoredForecasts) -> dict[str, Comparison]:
    """Scores of every stream, both forecasters on the origins and leads of the model's forecasts."""
    levels, horizon = np.array(forecasts.levels), forecasts.quantiles.shape[2]
    naive = seasonal_naive(year.values, horizon)[:, year.test :]
    spread = error_quantiles(year.values[:, : year.test], levels)
    actual = _ahead(year.values, horizon)[:, year.test :]
    result = {}
    for s, stream in enumerate(year.streams):
        made = forecasts.made[s]
        scale = seasonal_naive_error(year.values[s, : year.test], SEASON)
        points, quantiles = naive[s, made], forecasts.quantiles[s, made]
        result[stream] = Comparison(
            _scores(actual[s, made], quantiles[..., forecasts.levels.index(MEDIAN)], quantiles, levels, scale),
            _scores(actual[s, made], points, points[..., None] + spread[s], levels, scale),
        )
    return result


def mean(scores: Sequence[Comparison]) -> Comparison:
    """The mean of each figure over several streams."""

    def over(side: Sequence[Scores]) -> Scores:
        return Scores(*(float(np.mean([getattr(s, f) for s in side])) for f in ("mase", "pinball", "coverage")))

    return Comparison(over([c.model for c in scores]), over([c.naive for c in scores]))


def _scores(actual: Floats, points: Floats, quantiles: Floats, levels: Floats, scale: float) -> Scores:
    """Scores of N origins: actual and points (N, H), quantiles (N, H, Q), levels (Q,)."""
    lower, upper = (quantiles[..., int(np.flatnonzero(levels == level)[0])] for level in (LOWER, UPPER))
    return Scores(mase(actual, points, scale), pinball_loss(actual, quantiles, levels), coverage(actual, lower, upper))


def _ahead(values: Floats, horizon: int) -> Floats:
    """Actuals (S, T, H) at leads 1…H after every hour; NaN past the end."""
    padded = np.pad(values, ((0, 0), (0, horizon)), constant_values=np.nan)
    return np.lib.stride_tricks.sliding_window_view(padded[:, 1:], horizon, axis=1)
