"""The whole demo, on a slice of the year and a hand-made model."""

import gzip
import importlib
import json
import re

import numpy as np
import pytest
from matplotlib.image import imread

from streamer.adapters.files import open_input
from streamer.demo import EVENTS_PATH, chart, command
from streamer.demo.forecasts import ScoredForecasts
from streamer.demo.year import observed
from streamer.errors import ConfigError
from tests import models

SEVEN_WEEKS = slice(99_000, 123_000)  # of the packed lines: 19 August to 15 October, so the chart's days are in it


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    path = tmp_path_factory.mktemp("events") / "slice.jsonl.gz"
    with gzip.open(EVENTS_PATH) as lines, gzip.open(path, "wb") as sliced:
        sliced.writelines(list(lines)[SEVEN_WEEKS])
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.save(models.gru(horizon=24), tmp_path_factory.mktemp("model") / "model.onnx")


def test_the_demo_prints_its_tables_and_writes_every_forecast_and_a_chart(tmp_path, capsys, events, model):
    output = tmp_path / "deep" / "demo-output"
    command.run_demo(output, model, events)
    shown = capsys.readouterr().out
    assert re.search(r"24,000 +│ 24,000 +│ none +│ [\d,]+", shown)
    for variable in ("temp °F", "dewp °F", "humid %", "wind_speed mph", "pressure hPa", "visib miles", "all"):
        assert re.search(rf"│ {variable} +│ +\d", shown)
    assert str(output / "forecasts.jsonl") in shown.replace("\n", "")
    with (output / "forecasts.jsonl").open() as lines:
        written = [json.loads(line) for line in lines]
    assert [f["id"] for f in written] == [f"slice.jsonl.gz-0-{n}" for n in range(24_000)]
    assert written[0]["model"] == "gru-16@1"
    assert len(written[0]["quantiles"]["0.5"]) == 24
    assert is_a_picture(output / "fan-chart.png")


def test_a_folder_that_cannot_be_made_is_a_wrong_setting(tmp_path, events, model):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"--output: cannot make the folder '.*file': File exists; name another"):
        command.run_demo(tmp_path / "file", model, events)


@pytest.mark.parametrize("missing", ["rich", "matplotlib"])
def test_without_the_extra_the_message_says_how_to_install_it(tmp_path, monkeypatch, missing):
    def absent(name):
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name)

    real = importlib.import_module
    monkeypatch.setattr(command.importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=rf"{missing} is not installed, .*; do `pip install '\.\[demo\]'` in a clone"):
        command.run_demo(tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_the_chart_draws_what_was_observed_and_the_forecasts_that_were_made(tmp_path, events):
    with open_input(str(events)) as lines:
        year = observed(lines)
    origins = (18, year.values.shape[1] - year.test)
    quantiles = np.broadcast_to(np.array([20, 50, 80], np.float32), (*origins, 24, 3))
    pictures = []
    for made in (True, False):
        chart.draw(year, ScoredForecasts((0.1, 0.5, 0.9), np.full(origins, made), quantiles), "m@1", tmp_path / "c.png")
        assert is_a_picture(tmp_path / "c.png")
        pictures.append(imread(tmp_path / "c.png"))
    assert (pictures[0] != pictures[1]).any(axis=-1).mean() > 0.02  # of the pixels: the bands


def is_a_picture(path) -> bool:
    """Whether an image is large, and not of one colour."""
    pixels = imread(path)
    return pixels.shape[0] > 600 and pixels.shape[1] > 900 and pixels.std(axis=(0, 1)).max() > 0.05
