"""Seasonal naive, the opponent, against forecasts worked out by hand."""

import numpy as np

from streamer.demo.naive import error_quantiles, seasonal_naive

NAN = np.nan


def days(*values_at_noon: float) -> np.ndarray:
    """One stream (1, T) that is 5 at every hour but noon."""
    hours = np.full((1, 24 * len(values_at_noon)), 5.0)
    hours[0, 12::24] = values_at_noon
    return hours


def test_a_forecast_is_the_value_of_the_same_hour_the_day_before():
    forecasts = seasonal_naive(days(1, 2, 3), horizon=24)
    assert forecasts.shape == (1, 72, 24)
    noon_of_day_1 = 12 + 24
    assert forecasts[0, noon_of_day_1 - 1, 0] == 1  # an hour before noon, the last noon seen is day 0's
    assert forecasts[0, noon_of_day_1, 23] == 2
    assert forecasts[0, noon_of_day_1, 22] == 5


def test_a_forecast_uses_nothing_after_its_origin():
    values = days(1, 2, 3, 4)
    changed = values.copy()
    changed[0, 50:] = 99
    np.testing.assert_array_equal(
        seasonal_naive(values, horizon=60)[0, :50], seasonal_naive(changed, horizon=60)[0, :50]
    )


def test_beyond_a_day_ahead_the_last_day_is_repeated():
    forecasts = seasonal_naive(days(1, 2, 3), horizon=72)
    assert forecasts[0, 40, 19] == forecasts[0, 40, 43] == forecasts[0, 40, 67] == 2  # the noons to come


def test_a_missing_hour_is_taken_from_the_last_day_that_has_it():
    forecasts = seasonal_naive(days(1, NAN, NAN, 4), horizon=24)
    assert forecasts[0, 24 * 2 + 13, 22] == 1
    assert forecasts[0, 24 * 3 + 13, 22] == 4


def test_an_hour_that_was_never_seen_has_no_forecast():
    forecasts = seasonal_naive(days(NAN, NAN, 3), horizon=24)
    assert np.isnan(forecasts[0, 24 + 13, 22])
    assert np.isnan(forecasts[0, 0, 0])


def test_its_quantiles_are_those_of_its_errors_a_season_ahead():
    history = days(0, 10, 30)  # errors of 48 hours: 46 zeros, 10 and 20
    np.testing.assert_allclose(error_quantiles(history, np.array([0.1, 0.5, 46 / 47, 1.0])), [[0, 0, 10, 20]])


def test_a_stream_without_history_has_no_quantiles():
    assert np.isnan(error_quantiles(np.full((2, 48), NAN), np.array([0.1, 0.9]))).all()
    assert error_quantiles(np.zeros((2, 5)), np.array([0.1, 0.9])).shape == (2, 2)
