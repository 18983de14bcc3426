"""Settings of a training run: what is refused, and what the others follow from."""

from pathlib import Path

import pytest
import yaml

from streamer.errors import ConfigError
from tests.training.conftest import config_of
from training.config import Config, Training, load_config

CONFIGS = Path(__file__).parents[2] / "configs" / "training"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: m\nhorizn: 3", r"horizn: no such setting, found value 3"),
        ("name: m\nmodel: {hidden: 0}", r"model\.hidden: Input should be greater than or equal to 1, found 0"),
        ("name: m\nmodel: {cell: tcn}", r"model\.cell: Input should be 'rnn', 'gru' or 'lstm', found 'tcn'"),
        ("name: m\nlevels: [0.5, 0.1]", r"levels must be increasing, found \[0\.5, 0\.1\]"),
        ("name: m\nmodel: {seasons: [24], memory_steps: 20}", r"memory_steps must be more than .* 24, found 20"),
        ("name: m\ntraining: {window: 16, warmup: 16}", r"warmup must be less than window 16, found 16"),
        ("horizon: 3", r"name: is required"),
        ("just words", r"expected settings"),
        ("a: [", r"not YAML"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_value_and_what_was_expected(tmp_path, text, expected):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=expected) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_a_border_may_be_a_date_without_quotes(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("name: m\nsplit: {train_end: 2013-07-18, validation_end: 2013-09-01 06:00:00}")
    split = load_config(path).split
    assert (split.train_end, split.validation_end) == ("2013-07-18", "2013-09-01T06:00:00")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("step_ms", "seasons", "calendar"),
    [
        (3_600_000, (24, 168), ("day", "week")),
        (900_000, (96, 672), ("day", "week")),
        (300_000, (288,), ("day", "week")),
        (86_400_000, (7,), ("week", "year")),
        (7 * 86_400_000, (), ("year",)),
        (None, (), ()),
    ],
)
def test_seasons_and_calendar_follow_from_the_step(step_ms, seasons, calendar):
    config = Config(name="m", step_ms=step_ms)
    assert (config.seasons, config.calendar) == (seasons, calendar)


@pytest.mark.parametrize("name", ["etth1", "m4h_rolling", "m4h_final", "nab"])
def test_the_configs_of_the_protocols_differ_in_step_horizon_split_and_seasonality_alone(name):
    found = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert found.keys() <= {"name", "step_ms", "horizon", "split", "model"}
    assert found.get("model", {}).keys() <= {"seasons", "memory_steps", "calendar"}
    assert load_config(CONFIGS / f"{name}.yaml").training == Training()


def test_the_memory_holds_a_longest_season_and_a_shortest():
    assert Config(name="m").memory_steps == 192
    assert Config(name="m", step_ms=None).memory_steps == 96
    assert config_of().memory_steps == 48
