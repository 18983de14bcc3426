"""Backtests: scores computed by hand, and models held against naive ones."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from streamer.errors import ConfigError
from tests.training.conftest import config_of, hourly, untrained
from training.backtest import backtest, naive
from training.config import Split
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


def test_the_table_and_the_json_hold_the_scores(result):
    console = Console(width=140, record=True)
    console.print(result.table(per_stream=True))
    assert f"{result.of('seasonal naive', 's1').mase:.3f}" in console.export_text()
    rows = result.as_json()["scores"]
    assert {"stream": "mean", "forecaster": "model"}.items() <= rows[-3].items()


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
