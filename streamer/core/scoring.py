"""The metrics: what training minimises, the backtest and the demo report. One definition for all of them."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def pinball_loss(actual: Floats, predicted: Floats, levels: Floats) -> float:
    """Mean quantile (pinball) loss.

    actual     (…, H)     observed values, stream units; NaN where missing
    predicted  (…, H, Q)  quantile forecasts, same units
    levels     (Q,)       quantile levels in (0, 1), increasing
    returns               stream units, lower is better; NaN if nothing was observed

    Raises ValueError if the shapes disagree.
    Source: Koenker & Bassett (1978), Regression Quantiles, Econometrica 46.
    """
    levels = _checked(actual, predicted, levels)
    error = actual[..., None] - predicted
    return _mean_where_observed(actual, np.maximum(levels * error, (levels - 1) * error).mean(axis=-1))


def absolute_error(actual: Floats, predicted: Floats) -> float:
    """Mean absolute error of point forecasts; both of one shape, actual NaN where missing.

    Raises ValueError if the shapes disagree.
    """
    _check_same_shape(actual, predicted)
    return _mean_where_observed(actual, np.abs(actual - predicted))


def mase(actual: Floats, predicted: Floats, scale: float) -> float:
    """Mean absolute scaled error: the absolute error over the seasonal-naive error of the training part.

    scale    `seasonal_naive_error` of the history before the test; NaN is returned where it is not positive

    Source: Hyndman & Koehler (2006), Another look at measures of forecast accuracy, IJF 22.
    """
    return absolute_error(actual, predicted) / scale if scale > 0 else float("nan")


def seasonal_naive_error(history: Floats, season: int) -> float:
    """Mean |y[t] − y[t − season]| over a history (T,), NaN where missing: the scale of MASE."""
    change = np.abs(history[season:] - history[:-season])
    return _mean_where_observed(change, change)


def coverage(actual: Floats, lower: Floats, upper: Floats) -> float:
    """Share of the observed actuals inside [lower, upper]; all of one shape.

    Raises ValueError if the shapes disagree.
    """
    _check_same_shape(actual, lower, upper)
    return _mean_where_observed(actual, ((actual >= lower) & (actual <= upper)).astype(float))


def smape(actual: Floats, predicted: Floats) -> float:
    """Symmetric mean absolute percentage error, in percent (0 to 200), as in the M4 competition.

    Raises ValueError if the shapes disagree.
    """
    _check_same_shape(actual, predicted)
    size = np.abs(actual) + np.abs(predicted)
    return 200 * _mean_where_observed(actual, np.abs(actual - predicted) / np.where(size == 0, 1, size))


def crossing(predicted: Floats) -> float:
    """Share of neighbouring quantile pairs (…, Q) in the wrong order; 0 is required of every model."""
    wrong = np.diff(predicted, axis=-1) < 0
    return float(wrong.mean()) if wrong.size else 0.0


def _checked(actual: Floats, predicted: Floats, levels: Floats) -> Floats:
    if predicted.shape != (*actual.shape, len(levels)):
        raise ValueError(f"predicted {predicted.shape} should be actual {actual.shape} by {len(levels)} levels")
    return np.asarray(levels, float)


def _check_same_shape(actual: Floats, *others: Floats) -> None:
    for other in others:
        if other.shape != actual.shape:
            raise ValueError(f"actual {actual.shape} and predicted {other.shape} differ in shape")


def _mean_where_observed(actual: Floats, losses: Floats) -> float:
    """A NaN forecast of an observed value makes the mean NaN: it must not score better by forecasting less."""
    seen = losses[~np.isnan(actual)]
    return float(seen.mean()) if seen.size else float("nan")
