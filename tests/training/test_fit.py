"""Training: it learns, stops, repeats itself by its seed, and keeps the best it found."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from streamer.errors import ConfigError
from tests.training.conftest import config_of, hourly
from training.backtest import backtest
from training.checkpoint import write_whole
from training.data import parts, static_codes
from training.fit import calibrate, fit, manifest_of, validate
from training.stepping import TorchModel, forecasts, targets
from training.windows import Sampler, examples_of, statistics_of

SPLIT = {"train_end": 200, "validation_end": 300}


def weights(fitted):
    return torch.cat([p.flatten() for p in fitted.network.parameters()])


def streams(steps=400):
    return [hourly(steps, seed=i, stream=name) for i, name in enumerate("abc")]


def altered_from(series, step):
    value = series.value.copy()
    value[step:] = value[step:] * 3 + 7
    return replace(series, value=value * series.observed)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first, second = (fit(config_of(split=SPLIT), streams()) for _ in range(2))
    other = fit(config_of(split=SPLIT, training={"seed": 2}), streams())
    assert torch.equal(weights(first), weights(second))
    assert first.history == second.history
    assert not torch.equal(weights(first), weights(other))


def test_the_test_part_changes_no_weight():
    config = config_of(split=SPLIT)
    plain = fit(config, streams())
    altered = fit(config, [altered_from(s, 300) for s in streams()])
    assert torch.equal(weights(plain), weights(altered))


def test_the_times_of_the_test_part_change_no_unit_of_the_loss():
    config = config_of(split=SPLIT, step_ms=None, model={"seasons": [], "memory_steps": 20})
    late = [replace(s, time=np.where(np.arange(len(s)) < 200, s.time, s.time * 2)) for s in streams()]
    plain, altered = (examples_of(config, series) for series in (streams(), late))
    assert [e.scale for e in plain] == [e.scale for e in altered]


def test_a_training_window_shows_nothing_after_the_training_part():
    config = config_of(split=SPLIT, training={"batch": 64})
    drawn = []
    for series in (streams(), [altered_from(s, 200) for s in streams()]):
        examples = examples_of(config, series)
        sampler = Sampler(config, examples, {}, np.random.default_rng(5))
        drawn.append(sampler.draw(fit_network(config)))
    for a, b in zip(drawn[0].inputs[:5], drawn[1].inputs[:5], strict=True):
        assert torch.equal(a, b)
    assert torch.equal(drawn[0].actual.nan_to_num(), drawn[1].actual.nan_to_num())
    assert torch.equal(drawn[0].scale, drawn[1].scale)


def fit_network(config):
    from training.network import Forecaster

    return Forecaster(config)


class Watched(np.ndarray):
    """Numbers that note how many of their rows are read."""

    read = 0

    def __getitem__(self, key):
        found = super().__getitem__(key)
        Watched.read += len(np.atleast_1d(found))
        return found


def test_a_batch_of_windows_reads_no_more_of_a_longer_stream():
    config, read = config_of(training={"batch": 4}), []
    for steps in (1_000, 50_000):
        series = hourly(steps)
        watched = replace(series, value=series.value.view(Watched), observed=series.observed.view(Watched))
        sampler = Sampler(config, examples_of(config, [watched]), {}, np.random.default_rng(5))
        Watched.read = 0
        sampler.draw(fit_network(config))
        read.append(Watched.read)
    assert read[1] < 2 * read[0]


def test_a_stream_that_begins_after_the_training_part_weighs_as_others_do_in_validation():
    config = config_of(split={"train_end": "2013-01-09T08:00", "validation_end": "2013-01-13T12:00"})
    late = hourly(100, stream="late")
    late = replace(late, time=late.time + 210 * 3_600_000, value=late.value * 1e5)
    examples = examples_of(config, [hourly(400), late])
    assert examples[1].parts.train == 0
    model = TorchModel(fit_network(config), manifest_of(config, {}))
    assert validate(model, examples) < 2 * validate(model, examples[:1])


def test_training_learns_a_daily_wave_better_than_repeating_yesterday():
    series = streams()
    config = config_of(split=SPLIT, training={"steps": 150, "learning_rate": 0.01, "validate_every": 50})
    fitted = fit(config, series)
    origins = [np.arange(300, 390)] * 3
    model = TorchModel(fitted.network, fitted.manifest)
    ours, naive = [], []
    for i, o, quantiles in forecasts(model, series, [100] * 3, origins):
        actual = targets(series[i], o, 6)
        ours.append(np.nanmean(np.abs(actual - quantiles[..., 1])))
        naive.append(np.nanmean(np.abs(actual - targets(series[i], o - 24, 6))))
    assert np.mean(ours) < 0.95 * np.mean(naive)


def test_it_stops_when_validation_gets_no_better():
    config = config_of(split=SPLIT, training={"steps": 200, "learning_rate": 1e-30, "average": 0, "patience": 2})
    fitted = fit(config, streams())
    assert [step for step, *_ in fitted.history] == [10, 20, 30]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ({"train_end": 5, "validation_end": 300}, "training part"),
        ({"train_end": 300, "validation_end": 303}, "validation part of no stream holds 7 steps with a value"),
    ],
)
def test_a_part_too_short_is_refused(split, expected):
    with pytest.raises(ConfigError, match=expected):
        fit(config_of(split=split), streams())


def test_a_constant_stream_a_short_one_and_an_empty_one_do_no_harm():
    constant = replace(hourly(400, stream="c"), value=np.full((400, 1), 5.0), observed=np.ones((400, 1), np.float32))
    empty = replace(hourly(400, stream="e"), value=np.zeros((400, 1)), observed=np.zeros((400, 1), np.float32))
    short = hourly(12, stream="s")
    config = config_of(split={"train_end": 0.5, "validation_end": 0.75})
    fitted = fit(config, [*streams(), constant, empty, short])
    assert torch.isfinite(weights(fitted)).all()
    assert all(np.isfinite(loss) for _, *losses in fitted.history for loss in losses)


def test_streams_that_begin_after_the_training_part_or_end_in_it_are_fitted_around_and_scored_where_they_can_be():
    late = replace(hourly(400, stream="late"), time=hourly(400).time + 350 * 3_600_000)
    early, lone = hourly(40, stream="early"), hourly(1, stream="lone")
    split = {"train_end": "2013-01-09T08:00", "validation_end": "2013-01-13T12:00"}  # 200 and 300 steps
    config = config_of(split=split)
    series = [*streams(), late, early, lone]
    fitted = fit(config, series)
    assert torch.isfinite(weights(fitted)).all()
    result = backtest(TorchModel(fitted.network, fitted.manifest), series, config.split, season=24)
    assert np.isfinite(result.of("model").sql)
    assert result.of("model", "late").forecasts == 394  # from its first step, and none has a scale
    assert np.isnan(result.of("model", "late").sql)
    with pytest.raises(KeyError):
        result.of("model", "early")


def test_the_statistics_of_covariates_are_those_of_all_training_parts_together():
    config = config_of(split=SPLIT, data={"covariates": ["temp", "never", "still"]})
    series = [hourly(400, i, covariates=3) for i in range(3)]
    for s in series:
        s.observed[:, 2], s.value[:, 3] = 0, 0.1
    found = statistics_of(config, examples_of(config, series))
    seen = np.concatenate([s.value[:200, 1][s.observed[:200, 1] > 0] for s in series])
    assert found.mean == pytest.approx([seen.mean(), 0, 0.1])
    assert found.deviation == pytest.approx([seen.std(), 1, 1])


def test_categories_are_learned_by_code():
    series = [hourly(400, stream=s, static=(s,)) for s in ("north", "south")]
    fitted = fit(config_of(split=SPLIT, data={"static": ["site"]}), series)
    assert fitted.manifest.static == {"site": ("north", "south")}
    assert static_codes(series, fitted.manifest.static).tolist() == [[1], [2]]
    assert parts(series[0], fitted.config.split).train == 200


def test_the_outer_levels_cover_their_share_of_the_validation_part():
    quick = {"steps": 80, "learning_rate": 0.01, "validate_every": 40}
    config = config_of(split={"train_end": 200, "validation_end": 390}, training=quick)
    series = streams()
    fitted = fit(config, series)
    fitted.network.head.stretch.mul_(0.7)  # as a network too sure of itself would be
    examples = examples_of(config, series)
    calibrate(fitted.network, fitted.manifest, examples)
    model, inside = TorchModel(fitted.network, fitted.manifest), []
    for i, o, quantiles in forecasts(model, series, [127] * 3, [np.arange(199, 384)] * 3):
        actual = targets(series[i], o, 6)
        inside.append(((actual >= quantiles[..., 0]) & (actual <= quantiles[..., -1]))[~np.isnan(actual)])
    assert np.concatenate(inside).mean() == pytest.approx(0.8, abs=0.02)


def test_a_diverging_loss_is_reported_with_its_setting():
    config = config_of(split=SPLIT, training={"learning_rate": 1e30, "clip": 1e30, "average": 0})
    with pytest.raises(ConfigError, match="learning_rate"):
        fit(config, streams())


class KilledError(Exception):
    pass


def kill_at(step):
    def watch(now, figures):
        assert figures.keys() == {"loss/train", "loss/validation", "learning_rate"}
        if now == step:
            raise KilledError

    return watch


@pytest.mark.parametrize("windows", ["random", "carried"])
def test_a_fit_killed_in_the_middle_and_resumed_ends_with_the_same_weights(tmp_path, windows):
    config = config_of(split=SPLIT, training={"steps": 40, "windows": windows})
    whole = fit(config, streams())
    progress = tmp_path / "small.progress"
    with pytest.raises(KilledError):
        fit(config, streams(), progress=progress, watcher=kill_at(20))
    resumed = fit(config, streams(), progress=progress, resume=True)
    assert torch.equal(weights(whole), weights(resumed))
    assert whole.history == resumed.history
    again = fit(config, streams(), progress=progress, resume=True)  # killed at its very end, before it was kept
    assert torch.equal(weights(whole), weights(again))


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from tests.training.test_fit import SPLIT, config_of, fit, streams

def die(step, figures):
    if step == 20:
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
fit(config_of(split=SPLIT, training={"steps": 40}), streams(), progress=Path(sys.argv[1]), watcher=die)
"""


def test_a_process_killed_without_notice_leaves_what_another_goes_on_from(tmp_path):
    progress = tmp_path / "small.progress"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", KILLED, progress], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    config = config_of(split=SPLIT, training={"steps": 40})
    assert torch.equal(weights(fit(config, streams(), progress=progress, resume=True)), weights(fit(config, streams())))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_fit_on_a_cuda_device_goes_on_with_the_same_dropout(tmp_path):
    config = config_of(split=SPLIT, training={"steps": 40, "device": "cuda"}, model={"dropout": 0.5})
    whole, progress = fit(config, streams()), tmp_path / "small.progress"
    with pytest.raises(KilledError):
        fit(config, streams(), progress=progress, watcher=kill_at(20))
    resumed = fit(config, streams(), progress=progress, resume=True)
    torch.testing.assert_close(weights(resumed), weights(whole))


def test_a_fit_is_not_resumed_on_other_data_but_on_a_longer_test_part(tmp_path):
    config, progress = config_of(split=SPLIT), tmp_path / "small.progress"
    with pytest.raises(KilledError):
        fit(config, streams(), progress=progress, watcher=kill_at(10))
    for step in (0, 199, 299):  # of the training and the validation part
        with pytest.raises(ConfigError, match="holds a fit on other data before the test part, sha256:"):
            fit(config, [altered_from(s, step) for s in streams()], progress=progress, resume=True)
    with pytest.raises(ConfigError, match="other data"):
        fit(config, [replace(s, stream=s.stream * 2) for s in streams()], progress=progress, resume=True)
    fit(config, [altered_from(s, 300) for s in streams()], progress=progress, resume=True)


def test_resuming_by_other_settings_or_from_nothing_is_refused(tmp_path):
    progress = tmp_path / "small.progress"
    with pytest.raises(ConfigError, match="no fit to resume"):
        fit(config_of(split=SPLIT), streams(), progress=progress, resume=True)
    with pytest.raises(KilledError):
        fit(config_of(split=SPLIT), streams(), progress=progress, watcher=kill_at(10))
    with pytest.raises(ConfigError, match="other settings"):
        fit(config_of(split=SPLIT, training={"seed": 9}), streams(), progress=progress, resume=True)
    progress.write_bytes(b"no")
    with pytest.raises(ConfigError, match="not a fit"):
        fit(config_of(split=SPLIT), streams(), progress=progress, resume=True)


def test_carried_windows_go_on_where_the_last_ended_with_the_state_it_left():
    config = config_of(split=SPLIT, training={"windows": "carried", "hide": 0, "batch": 4, "window": 40})
    sampler = Sampler(config, examples_of(config, streams()), {}, np.random.default_rng(5))
    network = fit_network(config)
    first = sampler.draw(network)
    _, state = network(*first.inputs)
    sampler.carry(state)
    going_on = (sampler.lanes.begin + config.training.warmup < 194).nonzero()[0]
    assert len(going_on)
    second = sampler.draw(network)
    for row in going_on:
        assert second.inputs[2][row, 0] - first.inputs[2][row, 39] == 3_600_000
        assert all(torch.equal(a[row], b[row]) for a, b in zip(second.inputs[6], state, strict=True))


def test_windows_of_a_batch_have_similar_lengths():
    config = config_of(split={"train_end": 0.7, "validation_end": 0.8}, training={"batch": 16})
    series = [hourly(n, stream=str(n)) for n in (30, 32, 400, 420)]
    sampler = Sampler(config, examples_of(config, series), {}, np.random.default_rng(5))
    for _ in range(50):
        length = sampler.draw(fit_network(config)).inputs[3]
        assert length.max() <= 2 * length.min()


def test_half_precision_learns_as_single_precision_does():
    config = config_of(split=SPLIT, training={"steps": 40, "learning_rate": 0.01})
    single, half = (
        fit(config.model_copy(update={"training": config.training.model_copy(update={"precision": p})}), streams())
        for p in ("float32", "bfloat16")
    )
    assert not torch.equal(weights(single), weights(half))
    assert half.score == pytest.approx(single.score, rel=0.05)
    assert all(p.dtype == torch.float32 for p in half.network.parameters())


def test_a_file_that_cannot_be_written_is_told_in_a_line_and_leaves_nothing_behind(tmp_path):
    with pytest.raises(ConfigError, match=r"fit\.pt: cannot be written: .*; make room there, or name another place"):
        write_whole({}, tmp_path / "absent" / "fit.pt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="folder: cannot be written"):
        write_whole({}, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
