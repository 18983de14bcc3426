"""The metrics, each against a number worked out by hand."""

import math

import numpy as np
import pytest

from streamer.core import scoring

LEVELS = np.array([0.1, 0.5, 0.9])
NAN = math.nan


def test_pinball_loss_weighs_an_error_above_by_the_level_and_below_by_the_rest():
    actual = np.array([[10.0]])
    assert scoring.pinball_loss(actual, np.array([[[4.0]]]), np.array([0.9])) == pytest.approx(0.9 * 6)
    assert scoring.pinball_loss(actual, np.array([[[16.0]]]), np.array([0.9])) == pytest.approx(0.1 * 6)


def test_pinball_loss_is_the_mean_over_rows_leads_and_levels():
    actual = np.array([[1.0, 2.0]])
    predicted = np.array([[[0.0, 1.0, 3.0], [2.0, 4.0, 4.0]]])
    by_hand = (0.1 * 1 + 0.5 * 0 + 0.1 * 2) + (0.9 * 0 + 0.5 * 2 + 0.1 * 2)
    assert scoring.pinball_loss(actual, predicted, LEVELS) == pytest.approx(by_hand / 6)


def test_pinball_loss_at_the_median_is_half_the_absolute_error():
    random = np.random.default_rng(3)
    actual, predicted = random.normal(size=(2, 50, 24))
    half = scoring.absolute_error(actual, predicted) / 2
    assert scoring.pinball_loss(actual, predicted[..., None], np.array([0.5])) == pytest.approx(half)


def test_missing_actuals_count_in_no_metric():
    actual, predicted = np.array([1.0, NAN, 3.0]), np.array([2.0, 100.0, 3.0])
    assert scoring.absolute_error(actual, predicted) == 0.5
    assert scoring.mase(actual, predicted, 2.0) == 0.25
    assert scoring.pinball_loss(actual, predicted[:, None], np.array([0.5])) == 0.25
    assert scoring.coverage(actual, predicted - 1, predicted + 0.5) == 1.0
    assert scoring.smape(actual, predicted) == pytest.approx(200 * (1 / 3) / 2)


def test_a_missing_forecast_of_an_observed_value_is_not_passed_over():
    actual, predicted = np.array([1.0, 2.0]), np.array([1.0, NAN])
    assert math.isnan(scoring.absolute_error(actual, predicted))
    assert math.isnan(scoring.pinball_loss(actual, predicted[:, None], np.array([0.5])))
    assert math.isnan(scoring.smape(actual, predicted))
    assert scoring.coverage(actual, predicted, predicted) == 0.5


def test_where_nothing_was_observed_every_score_is_nan():
    actual, predicted = np.full((2, 3), NAN), np.zeros((2, 3))
    assert math.isnan(scoring.absolute_error(actual, predicted))
    assert math.isnan(scoring.pinball_loss(actual, np.zeros((2, 3, 3)), LEVELS))
    assert math.isnan(scoring.coverage(actual, predicted, predicted))
    assert math.isnan(scoring.smape(actual, predicted))
    assert math.isnan(scoring.absolute_error(np.empty((0, 3)), np.empty((0, 3))))


def test_mase_of_seasonal_naive_on_its_own_history_is_one():
    history = np.array([1.0, 5.0, 2.0, 7.0, 4.0, 1.0])
    scale = scoring.seasonal_naive_error(history, season=2)
    assert scale == pytest.approx((1 + 2 + 2 + 6) / 4)
    assert scoring.mase(history[2:], history[:-2], scale) == pytest.approx(1.0)


def test_a_difference_with_a_missing_end_is_left_out_of_the_scale():
    assert scoring.seasonal_naive_error(np.array([1.0, NAN, 4.0, 6.0]), season=1) == 2.0


def test_a_history_shorter_than_its_season_has_no_scale():
    assert math.isnan(scoring.seasonal_naive_error(np.arange(5.0), season=24))


@pytest.mark.parametrize("scale", [0.0, -1.0, NAN])
def test_mase_without_a_positive_scale_is_nan(scale):
    assert math.isnan(scoring.mase(np.ones(3), np.zeros(3), scale))


def test_coverage_counts_the_bounds_as_inside():
    actual = np.array([0.0, 1.0, 2.0, 3.0, NAN])
    assert scoring.coverage(actual, np.full(5, 1.0), np.full(5, 2.0)) == 0.5


def test_smape_runs_from_0_to_200_and_two_zeros_agree():
    assert scoring.smape(np.array([0.0, 3.0]), np.array([0.0, 3.0])) == 0.0
    assert scoring.smape(np.array([3.0]), np.array([-3.0])) == 200.0
    assert scoring.smape(np.array([100.0]), np.array([50.0])) == pytest.approx(200 * 50 / 150)


def test_crossing_is_the_share_of_neighbouring_quantiles_in_the_wrong_order():
    assert scoring.crossing(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 2.0]])) == 0.25
    assert scoring.crossing(np.array([[1.0], [0.0]])) == 0.0
    assert scoring.crossing(np.empty((0, 24, 3))) == 0.0


def test_arrays_that_do_not_fit_are_refused_rather_than_broadcast():
    column, row = np.zeros((3, 1)), np.zeros((3, 3))
    with pytest.raises(ValueError, match=r"predicted \(3, 3\) should be actual \(3, 1\) by 3 levels"):
        scoring.pinball_loss(column, row, LEVELS)
    with pytest.raises(ValueError, match=r"actual \(3, 1\) and predicted \(3, 3\) differ in shape"):
        scoring.absolute_error(column, row)
    with pytest.raises(ValueError, match="differ in shape"):
        scoring.coverage(row, row, column)
    with pytest.raises(ValueError, match="differ in shape"):
        scoring.smape(row, column)


def test_single_precision_forecasts_score_as_double_ones():
    random = np.random.default_rng(5)
    actual = random.normal(1000, 1, (500, 24))
    predicted = np.sort(actual[..., None] + random.normal(0, 1, (500, 24, 3)), axis=-1)
    single = scoring.pinball_loss(actual, predicted.astype(np.float32), LEVELS)
    assert single == pytest.approx(scoring.pinball_loss(actual, predicted, LEVELS), rel=1e-4)
