"""Seasonal naive, the competitor: what was observed at the same hour of the last day for which it was.

Its quantiles are those of its own errors before the test, stream by stream, around the forecast: an honest
opponent knows how wrong it usually is.
"""

import numpy as np

from streamer.core.scoring import Floats

SEASON = 24


def seasonal_naive(values: Floats, horizon: int) -> Floats:
    """Point forecasts at every hour as origin.

    values   (S, T)     NaN where missing
    returns  (S, T, H)  NaN where that hour of the day was never observed before
    """
    same_hour = _last_seen_by_hour(values)
    hours, lead = values.shape[1], np.arange(1, horizon + 1)
    source = np.arange(hours)[:, None] + lead - SEASON * -(-lead // SEASON)
    return np.where(source >= 0, same_hour[:, np.maximum(source, 0)], np.nan)


def error_quantiles(values: Floats, levels: Floats) -> Floats:
    """Quantiles (S, Q) of the errors of one season ahead over a history (S, T); NaN where it has none."""
    errors = values[:, SEASON:] - _last_seen_by_hour(values)[:, :-SEASON]
    observed = [row[~np.isnan(row)] for row in errors]
    return np.array([np.quantile(e, levels) if e.size else np.full(len(levels), np.nan) for e in observed])


def _last_seen_by_hour(values: Floats) -> Floats:
    """The values (S, T), each missing one replaced by the last one seen a whole number of seasons before."""
    hours = np.arange(values.shape[1])
    source = np.where(np.isnan(values), -1, hours)
    for begin in range(SEASON, len(hours), SEASON):
        now = source[:, begin : begin + SEASON]
        before = source[:, begin - SEASON : begin][:, : now.shape[1]]
        np.maximum(now, before, out=now)
    return np.where(source >= 0, np.take_along_axis(values, np.maximum(source, 0), axis=1), np.nan)
