"""Backtests: scores computed by hand, and models held against naive ones."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from streamer.errors import ConfigError
from tests.training.conftest import config_of, hourly, untrained
from training.backtest import backtest, cross_validate, outcomes
from training.config import Split
from training.data import Parts
from training.naive import naive
from training.questions import ask, summed
from training.scores import Outcome, scored
from training.stepping import TorchModel

SPLIT = Split(train_end=200, validation_end=300)


@pytest.fixture(scope="module")
def result():
    series = [hourly(360, i, f"s{i}") for i in range(2)]
    fitted = untrained(config_of(), series)
    return backtest(TorchModel(fitted.network, fitted.manifest), series, SPLIT, season=24)


def test_every_origin_of_the_test_part_is_scored_for_the_model_and_both_naive_forecasts(result):
    assert {s.forecaster for s in result.scores} == {"model", "seasonal naive", "last value"}
    for stream, expected in (("s0", 55), ("s1", 55), ("mean", 110)):
        for forecaster in ("model", "seasonal naive", "last value"):
            assert result.of(forecaster, stream).forecasts == expected  # origins 299 … 353
    with pytest.raises(KeyError):
        result.of("oracle")


def test_the_mean_weighs_streams_alike_and_no_model_crosses(result):
    rows = [result.of("model", s) for s in ("s0", "s1")]
    assert result.of("model").sql == pytest.approx(np.mean([r.sql for r in rows]))
    assert all(s.crossing == 0 for s in result.scores)


def test_the_means_fit_a_terminal_of_80_columns(result):
    console = Console(width=80, record=True)
    console.print(result.table())
    said = console.export_text()
    row = result.of("seasonal naive")
    assert "…" not in said
    assert all(f"{value:.3f}" in said for value in (row.sql, row.mase, row.coverage))


def test_the_table_and_the_json_hold_the_scores(result):
    console = Console(width=140, record=True)
    console.print(result.table(per_stream=True))
    assert f"{result.of('seasonal naive', 's1').mase:.3f}" in console.export_text()
    rows = result.as_json()["scores"]
    (mean,) = [r for r in rows if (r["stream"], r["forecaster"], r["lead"]) == ("mean", "model", 0)]
    assert mean["sql"] == result.of("model").sql


def test_each_lead_has_its_scores_and_their_mean_is_the_whole(result):
    at_leads = [result.of("model", "s0", lead) for lead in range(1, 7)]
    assert np.mean([s.mase for s in at_leads]) == pytest.approx(result.of("model", "s0").mase, rel=0.01)
    assert result.of("last value", "s0", 1).width < result.of("last value", "s0", 6).width
    assert sum(s.lead == 1 for s in result.scores) == 9  # 2 streams and their mean, 3 forecasters


def test_skill_is_the_loss_saved_of_the_better_naive_forecast(result):
    naive_losses = [result.of(f, "s0").sql for f in ("seasonal naive", "last value")]
    assert result.skill(result.of("seasonal naive", "s0")) == 0
    assert result.skill(result.of("model", "s0")) == pytest.approx(1 - result.of("model", "s0").sql / min(naive_losses))
    assert result.summary()["seasonal_naive_sql"] == round(result.of("seasonal naive").sql, 4)


def test_a_stream_that_naive_forecasts_without_any_loss_has_a_skill(result):
    naive_rows = [replace(result.of(f, "s0"), sql=0.0) for f in ("seasonal naive", "last value")]
    exact, wrong, unknown = (replace(result.of("model", "s0"), sql=sql) for sql in (0.0, 0.5, float("nan")))
    skills = [replace(result, scores=(row, *naive_rows)).skill(row) for row in (exact, wrong)]
    assert skills == [0, -np.inf]
    assert np.isnan(result.skill(unknown))
    known = replace(result, scores=(wrong, replace(naive_rows[0], sql=float("nan")), replace(naive_rows[1], sql=1.0)))
    assert known.skill(wrong) == 0.5


def test_streams_are_forecast_group_by_group_so_that_not_all_forecasts_are_held(monkeypatch):
    series = [hourly(360, i, f"s{i}") for i in range(5)]
    fitted = untrained(config_of(), series)
    model = TorchModel(fitted.network, fitted.manifest)
    advanced = []
    monkeypatch.setattr(model, "advance", lambda *a: advanced.append(len(a[0].length)) or TorchModel.advance(model, *a))
    whole = list(outcomes(model, series, SPLIT))
    assert advanced == [5] * 3  # 353 steps in blocks of 128
    advanced.clear()
    monkeypatch.setattr("training.backtest.HELD", 2 * 55 * 6 * 3)  # forecasts of two streams
    found = []
    for i, outcome in outcomes(model, series, SPLIT):
        assert sum(advanced) == 3 * min(2 * (i // 2 + 1), 5)
        found.append((i, outcome))
    assert [(i, o.stream, o.forecaster) for i, o in found] == [(i, o.stream, o.forecaster) for i, o in whole]
    for (_, a), (_, b) in zip(found, whole, strict=True):
        np.testing.assert_allclose(a.predicted, b.predicted, rtol=1e-5)


def outcome_of(actual, median):
    predicted = np.stack((median - 1, median, median + 1), axis=-1)
    return Outcome("a", "model", actual, predicted, (0.1, 0.5, 0.9), 1.0)


def test_the_coverage_of_each_interval_is_the_share_between_its_levels():
    actual = np.array([[0.0, 0.5, 3.0, np.nan]])
    whole = scored(outcome_of(actual, np.zeros((1, 4))))[0]
    assert whole.coverages == pytest.approx((2 / 3,))
    assert whole.below == pytest.approx((0, 1 / 3, 2 / 3))
    assert whole.widths == (2.0,)


def test_a_confusion_matrix_counts_truth_in_rows_and_forecasts_in_columns():
    series = replace(hourly(12), value=np.zeros((12, 1)), observed=np.ones((12, 1), np.float32))
    actual, median = np.array([[1.0, 1], [1, -1], [0, 0], [-1, np.nan]]), np.array([[1.0, 1], [-1, -1], [0, 9], [1, 1]])
    matrices = ask(outcome_of(actual, median), series, Parts(4, 6, 11), 1)
    first, last, crossing = matrices
    assert (first.question, last.question) == ("direction to lead 1", "direction to lead 2")
    assert first.counts == ((0, 0, 1), (0, 1, 0), (1, 0, 1))  # of down, flat, up
    assert first.accuracy == 0.5
    assert sum(map(sum, last.counts)) == 3  # the missing actual is not asked about
    assert crossing.counts == ((0, 1), (1, 1))
    assert crossing.most_frequent == pytest.approx(2 / 3)
    assert summed([first, first])[0].counts == ((0, 0, 2), (0, 2, 0), (2, 0, 2))


def test_seasonal_naive_repeats_the_season_and_looks_further_back_over_a_gap():
    wave = np.tile(np.arange(24.0), 20)
    series = replace(hourly(480), value=wave[:, None], observed=np.ones((480, 1), np.float32))
    series.observed[376] = 0
    quantiles = naive(series, np.array([399]), 300, 24, 30, [0.1, 0.5, 0.9])
    assert np.array_equal(quantiles[0, :, 1], wave[400:430])


def test_last_value_widens_as_its_errors_do():
    walk = np.random.default_rng(0).normal(size=2000).cumsum()
    series = replace(hourly(2000), value=walk[:, None], observed=np.ones((2000, 1), np.float32))
    quantiles = naive(series, np.array([1900]), 1800, 1, 6, [0.1, 0.5, 0.9])[0]
    width = quantiles[:, 2] - quantiles[:, 0]
    assert width[5] / width[0] == pytest.approx(6**0.5, rel=0.15)
    assert abs(quantiles[0, 1] - walk[1900]) < 0.2


def test_a_test_part_without_a_whole_forecast_is_refused():
    series = [hourly(302)]
    fitted = untrained(config_of(), series)
    with pytest.raises(ConfigError, match="test part of no stream holds 6 steps"):
        backtest(TorchModel(fitted.network, fitted.manifest), series, SPLIT, season=24)


def test_cross_validation_fits_and_scores_each_fold():
    series = [hourly(420, i, f"s{i}") for i in range(2)]
    config = config_of(split={"train_end": 200, "validation_end": 300}, training={"steps": 4, "validate_every": 4})
    result = cross_validate(config, series, folds=2)
    folds = [result.of("model", f"mean (fold {k})") for k in (1, 2)]
    assert [f.forecasts for f in folds] == [2 * 55, 2 * 55]
    assert result.of("model").forecasts == 4 * 55
    assert result.of("model").sql == pytest.approx(np.mean([f.sql for f in folds]))
    assert result.of("model", "s1 (fold 2)").sql > 0
