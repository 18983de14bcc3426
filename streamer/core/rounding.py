"""How many decimals of a forecast are published.

A quantile's ninth digit means nothing, and costs time and bytes. All numbers of one forecast share a decimal place:

    coarse  the one at which the largest number has `digits` significant digits
    fine    the one that divides the forecast's range (largest less smallest number) into a thousand parts or more

The finer of both counts, so that a stream at 1,000,000 ± 1 keeps its shape, and no place left of the point is rounded.
Where all numbers are one and the same there is no range, and the coarse place alone counts. The rounding is half a unit
of the last decimal at most: with six digits at most 5e-6 of the forecast's largest number.
"""

import numpy as np
import numpy.typing as npt

IN_FULL = -1  # no decimal place suits: the numbers are written as float32 in shortest round-trip form
MAX_DECIMALS = 22  # the largest power of ten that float64 holds exactly
MAX_SCALED = 1e15  # a number times its power of ten: whole in float64, and sixteen digits when written
FIRST_POWER = -46
POWERS = np.array([float(f"1e{exponent}") for exponent in range(FIRST_POWER, 40)])  # all that float32 can hold
SCALES = POWERS[-FIRST_POWER : MAX_DECIMALS - FIRST_POWER + 1]  # 10^0 … 10^MAX_DECIMALS
RANGE_PARTS = 3  # decimal digits of the forecast's range that are kept at least

Floats = npt.NDArray[np.float32]
Decimals = npt.NDArray[np.int8]


def decimals(quantiles: Floats, digits: int) -> Decimals:
    """(n,) decimals to publish of each forecast; IN_FULL where the numbers are to be written as they are.

    quantiles  (n, H, Q)  NaN where missing
    digits                significant digits of a forecast's largest number; 0: every number in full

    In full, too, are forecasts without a finite number, and numbers beyond 1e15 or so small that they would need more
    than 22 decimals.
    """
    n = len(quantiles)
    if not digits:
        return np.full(n, IN_FULL, np.int8)
    by_number = np.ascontiguousarray(quantiles.reshape(n, -1).T)  # compared column by column, a third faster
    low = np.fmin.reduce(by_number, axis=0).astype(np.float64)
    high = np.fmax.reduce(by_number, axis=0).astype(np.float64)
    largest = np.maximum(np.abs(low), np.abs(high))
    with np.errstate(invalid="ignore"):  # infinite less infinite; such a forecast is written in full
        spread = high - low
    usable = np.isfinite(largest)
    largest = np.where(usable & (largest > 0), largest, 1.0)  # zeros are "0.0" with any number of decimals
    coarse = digits - 1 - _exponent(largest)
    fine = np.where(spread > 0, RANGE_PARTS - _exponent(spread), 0)
    found = np.maximum(np.maximum(coarse, fine), 0)
    usable &= found <= MAX_DECIMALS
    usable &= largest * SCALES[np.where(usable, found, 0)] < MAX_SCALED
    return np.where(usable, found, IN_FULL).astype(np.int8)


def scaled(quantiles: Floats, places: Decimals) -> npt.NDArray[np.float64]:
    """The numbers (n, H, Q) in units of their last decimal: whole, half to even; NaN where missing."""
    whole: npt.NDArray[np.float64] = np.rint(quantiles.astype(np.float64) * SCALES[places][:, None, None])
    return whole


def _exponent(positive: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The largest whole k with 10^k ≤ the number; a table, because log10 is not exact at powers of ten."""
    return np.searchsorted(POWERS, positive, side="right") - 1 + FIRST_POWER
