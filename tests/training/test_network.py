"""The forecaster: quantiles in order, units that cancel out, and nothing seen after the origin."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.conftest import config_of, hourly, untrained
from training.memory import TINY, Memory
from training.stepping import TorchModel, forecasts, fresh_state


def forecast_all(config, series, fitted=None):
    """Forecasts after every step (n, H, Q)."""
    fitted = fitted or untrained(config, [series])
    pieces = forecasts(TorchModel(fitted.network, fitted.manifest), [series], [0], [np.arange(len(series))])
    return np.concatenate([q for _, _, q in pieces])


def with_values(series, value):
    return replace(series, value=value[:, None] * series.observed)


def test_quantiles_never_cross_whatever_the_values():
    series = hourly(200)
    wild = np.random.default_rng(1).standard_cauchy(200) * 1e4
    for levels in ([0.5], [0.1, 0.5, 0.9], [0.6, 0.7, 0.8], [i / 10 for i in range(1, 10)]):
        quantiles = forecast_all(config_of(levels=levels), with_values(series, wild))
        assert np.isfinite(quantiles).all()
        assert (np.diff(quantiles, axis=-1) >= 0).all()


def test_forecasts_follow_a_change_of_unit_and_of_origin():
    config, series = config_of(), hourly(150)
    fitted = untrained(config, [series])
    plain = forecast_all(config, series, fitted)
    moved = forecast_all(config, with_values(series, series.value[:, 0] * 1000 - 5e4), fitted)
    warm = 48
    np.testing.assert_allclose(moved[warm:], plain[warm:] * 1000 - 5e4, rtol=1e-4, atol=1)


def test_a_small_signal_on_a_large_level_is_still_seen():
    config, series = config_of(), hourly(150)
    fitted = untrained(config, [series])
    plain = forecast_all(config, series, fitted)
    lifted = forecast_all(config, with_values(series, series.value[:, 0] + 1e6), fitted)
    assert np.abs(lifted[48:] - 1e6 - plain[48:]).max() < 0.2  # float32 resolves 0.06 there


def test_zero_state_is_a_stream_never_seen():
    series = hourly(60)
    fitted = untrained(config_of(), [series])
    model = TorchModel(fitted.network, fitted.manifest)
    assert all(not s.any() for s in fresh_state(model, 1))
    gap = replace(series, observed=np.zeros_like(series.observed), value=np.zeros_like(series.value))
    assert np.isfinite(forecast_all(config_of(), gap, fitted)).all()


def test_before_the_first_value_nothing_of_it_is_known():
    config, series = config_of(), hourly(60)
    series.observed[:20] = 0
    fitted = untrained(config, [series])
    early = forecast_all(config, with_values(series, series.value[:, 0]), fitted)[:20]
    other = forecast_all(config, with_values(series, series.value[:, 0] * 7 + 300), fitted)[:20]
    np.testing.assert_array_equal(early, other)


def test_a_forecast_sees_nothing_after_its_origin():
    config, series = config_of(), hourly(120)
    fitted = untrained(config, [series])
    changed = series.value[:, 0].copy()
    changed[80:] += 100
    before, after = (forecast_all(config, with_values(series, v), fitted) for v in (series.value[:, 0], changed))
    np.testing.assert_allclose(before[:80], after[:80], rtol=1e-5)
    assert np.abs(before[80:] - after[80:]).max() > 10


def test_a_gap_longer_than_the_ring_leaves_the_usual_level_and_spread():
    memory = Memory(48, (1, 24))
    series = hourly(300)
    value, observed = torch.from_numpy(series.value.T), torch.from_numpy(series.observed.T).clone()
    observed[:, 200:] = 0
    state = [torch.zeros((1, *shape), dtype=dtype) for _, dtype, shape in memory.state_specs]
    recall = memory.extend(value * observed, observed, state)
    level = (recall.level + recall.anchor).flatten()
    assert not recall.seen[0, -48:].any()
    assert level[-1].item() == pytest.approx(np.nanmean(series.target[:200]), abs=1)
    assert recall.spread[0, -1].item() == pytest.approx(np.nanstd(series.target[100:200]), rel=0.3)


def test_an_outlier_is_forgotten_with_the_ring():
    config, series = config_of(), hourly(200)
    memory = Memory(config.memory_steps, (1, 24))
    spiked = series.value[:, 0].copy()
    spiked[60], series.observed[60] = 1e9, 1
    observed = torch.from_numpy(series.observed.T)
    state = [torch.zeros((1, *shape), dtype=dtype) for _, dtype, shape in memory.state_specs]
    plain = memory.extend(torch.from_numpy(series.value.T) * observed, observed, state)
    hit = memory.extend(torch.from_numpy(spiked[None]) * observed, observed, state)
    for a, b in zip(plain.changes, hit.changes, strict=True):
        np.testing.assert_allclose(a[0, 120:], b[0, 120:], rtol=0.1)
        assert b[0, 70] > 1e5


def test_the_anchor_follows_a_level_that_has_gone_far():
    memory = Memory(48, (1, 24))
    series = torch.cat((torch.zeros(1, 10), 1e7 + torch.arange(90).remainder(7).unsqueeze(0)), dim=1).double()
    observed = torch.ones(1, 100)
    state = [torch.zeros((1, *shape), dtype=dtype) for _, dtype, shape in memory.state_specs]
    for piece in (slice(0, 80), slice(80, 100)):
        recall = memory.extend(series[:, piece], observed[:, piece], state)
        length = torch.tensor([piece.stop - piece.start])
        state = memory.keep(recall, observed[:, piece], length, state)
    assert abs(state[1][0, 0].item() - 1e7) < 10
    np.testing.assert_allclose(state[0][0].double() + state[1][0, 0], series[0, -48:], atol=0.5)


def test_a_value_equal_to_the_anchor_is_not_taken_for_missing():
    memory = Memory(8, (1,))
    state = [torch.zeros((1, *shape), dtype=dtype) for _, dtype, shape in memory.state_specs]
    recall = memory.extend(torch.full((1, 3), 5.0).double(), torch.tensor([[1.0, 0.0, 1.0]]), state)
    assert recall.seen[0].tolist() == [0] * 8 + [1, 0, 1]
    assert recall.line[0, 8].item() == pytest.approx(TINY)


def test_categories_and_covariates_change_the_forecast():
    config = config_of(data={"covariates": ["temp"], "static": ["site"]})
    north, south = (hourly(60, stream=s, covariates=1, static=(s,)) for s in ("north", "south"))
    fitted = untrained(config, [north, south])
    plain = forecast_all(config, north, fitted)
    assert np.abs(plain - forecast_all(config, south, fitted)).max() > 1e-3
    warmer = replace(north, value=north.value + np.array([0, 10]))
    assert np.abs(plain - forecast_all(config, warmer, fitted)).max() > 1e-3


def test_attention_looks_at_the_notes_before_each_step_and_never_ahead():
    config, series = config_of(model={"attention": 4, "note": 3}), hourly(120)
    fitted = untrained(config, [series])
    plain = forecast_all(config, series, fitted)
    attention = fitted.network.attention
    by_age = attention.by_age(attention.last_weights)
    assert by_age.shape == (1, 120, 4)
    np.testing.assert_allclose(by_age.sum(dim=2)[0, 1:], 1, atol=1e-5)
    np.testing.assert_array_equal(by_age[0, 0], np.zeros(4))  # nothing came before the first step
    changed = series.value[:, 0].copy()
    changed[80:] += 100
    after = forecast_all(config, with_values(series, changed), fitted)
    np.testing.assert_allclose(plain[:80], after[:80], rtol=1e-5)


@pytest.mark.parametrize("part", ["skip", "gate", "window", "recurrence"])
def test_each_part_that_is_left_out_changes_the_forecast(part):
    series = hourly(100)
    whole, less = (forecast_all(config_of(model={"without": w}), series) for w in ([], [part]))
    assert np.abs(whole - less).max() > 1e-3
