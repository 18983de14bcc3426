"""Rounding: what is dropped of a forecast's numbers is far below what they mean, and known to the reader."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streamer.core.rounding import IN_FULL, decimals
from streamer.core.wire import ForecastEncoder
from tests.forecasts import forecasts, manifest

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))


def published(quantiles: np.ndarray, digits: int) -> np.ndarray:
    """The numbers (n, H, Q) as a consumer reads them, in float64."""
    n, horizon, q = quantiles.shape
    encoder = ForecastEncoder(manifest((0.05, 0.5, 0.975)[:q], horizon), digits)
    lines = encoder.encode(forecasts(quantiles, ["a"] * n, list(range(n))))
    read = [list(json.loads(line)["quantiles"].values()) for line in lines]
    return np.array(read, float).transpose(0, 2, 1)


@pytest.mark.parametrize(
    ("numbers", "digits", "expected"),
    [
        ([12.3456789, 1.0], 6, [12.3457, 1.0]),
        ([99999.97, 1.0], 6, [100000.0, 1.0]),
        ([0.00123456789, 0.001], 6, [0.00123457, 0.001]),
        ([1234567.0, 1.0], 6, [1234567.0, 1.0]),
        ([1_000_000.25, 1_000_001.0], 6, [1_000_000.25, 1_000_001.0]),
        ([1013.25001, 1012.75], 4, [1013.25, 1012.75]),
        ([5.0625, 5.0625], 2, [5.1, 5.1]),
        ([-43.378204, -43.378204], 6, [-43.3782, -43.3782]),
        ([43.378204, np.nan], 6, [43.3782, np.nan]),
        ([1_000_000.25, 1_000_000.25], 6, [1_000_000.0, 1_000_000.0]),
        ([1_000_000.25, 1_000_000.25], 9, [1_000_000.25, 1_000_000.25]),
        ([-7.77, np.nan], 2, [-7.8, np.nan]),
        ([-7.77, 2.0], 2, [-7.77, 2.0]),
        ([-7.7777, 2.0], 2, [-7.778, 2.0]),
        ([3e20, 1.0], 6, [np.float32(3e20), 1.0]),
        ([3e-20, 1e-20], 6, [np.float32(3e-20), np.float32(1e-20)]),
        ([0.0, 0.0], 6, [0.0, 0.0]),
        ([0.0, -0.0], 6, [0.0, 0.0]),
        ([np.nan, np.nan], 6, [np.nan, np.nan]),
        ([-1e-7, 3.0], 4, [0.0, 3.0]),
    ],
)
def test_numbers_keep_the_digits_that_mean_something(numbers, digits, expected):
    found = published(np.array(numbers, np.float32).reshape(1, 2, 1), digits).ravel()
    np.testing.assert_allclose(found, np.array(expected), rtol=1e-7)


@given(
    quantiles=arrays.arrays(np.float32, SHAPES, elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    digits=st.integers(1, 9),
)
def test_a_number_is_off_by_half_a_unit_of_the_last_digit_at_most(quantiles, digits):
    exact = quantiles.astype(np.float64)
    off = np.abs(published(quantiles, digits) - exact)
    largest = np.abs(exact).max(axis=(1, 2), keepdims=True)
    spread = np.ptp(exact, axis=(1, 2)).reshape(largest.shape)
    within = np.spacing(np.abs(quantiles)).astype(np.float64)  # numbers in full are read back as float64
    assert (off <= 5 * 10.0**-digits * largest + within).all()
    assert (off <= np.where(spread > 0, spread / 1000, np.inf) + within).all()


def test_where_no_decimal_suits_the_numbers_stay_as_they_are():
    odd = np.array([[np.inf, 1], [np.inf, np.inf], [np.nan, np.nan], [1e16, 0], [1e16, 1e16], [3e-20, 0]], np.float32)
    assert decimals(odd[:, :, None], 6).tolist() == [IN_FULL] * len(odd)
    assert decimals(np.array([[[1.0, 2.0]]], np.float32), 0).tolist() == [IN_FULL]


@given(
    quantiles=arrays.arrays(np.float32, (3, 2, 3), elements=st.floats(-1e6, 1e6, width=32)),
    leads=st.sets(st.integers(1, 2)),
    levels=st.sets(st.sampled_from([0.05, 0.5, 0.975])),
    digits=st.integers(0, 9),
)
def test_a_number_is_published_alike_whichever_others_are(quantiles, leads, levels, digits):
    made = forecasts(quantiles, list("abc"), [0, 1, 2])
    described = manifest((0.05, 0.5, 0.975))
    whole, part = (
        [
            json.loads(line, parse_float=str)["quantiles"]
            for line in ForecastEncoder(described, digits, leads=chosen, levels=kept).encode(made)
        ]
        for chosen, kept in (((), ()), (tuple(leads), tuple(levels)))
    )
    kept_leads = sorted(leads) or [1, 2]
    for every, some in zip(whole, part, strict=True):
        assert some == {
            level: [numbers[lead - 1] for lead in kept_leads]
            for level, numbers in every.items()
            if not levels or float(level) in levels
        }
