"""Naive forecasts, the ones to beat: the last value and the value one season before, with their errors' quantiles."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.data import Series
from training.stepping import targets

Floats = npt.NDArray[np.floating]


def naive(
    series: Series, origins: npt.NDArray[np.int64], known: int, lag: int, horizon: int, levels: Sequence[float]
) -> Floats:
    """The value a whole number of lags before each lead, with its errors' quantiles (n, H, Q).

    known  steps before the test part, whose errors are taken. A missing value is the one a lag earlier.
    """
    target = _filled(series.target, lag)
    lead = np.arange(1, horizon + 1)
    back = lead - lag * -(-lead // lag)
    past = np.arange(lag - 1, max(known - horizon, lag))
    error = targets(series, past, horizon) - target[past[:, None] + back]
    spread = np.stack([_quantiles(error[:, h], levels) for h in range(horizon)])
    quantiles: Floats = target[np.maximum(origins[:, None] + back, 0)][..., None] + spread
    return quantiles


def _filled(target: Floats, lag: int) -> Floats:
    out = target.copy()
    for t in range(lag, len(out)):
        if np.isnan(out[t]):
            out[t] = out[t - lag]
    return out


def _quantiles(errors: Floats, levels: Sequence[float]) -> Floats:
    seen = errors[~np.isnan(errors)]
    return np.quantile(seen, levels) if seen.size else np.zeros(len(levels))
