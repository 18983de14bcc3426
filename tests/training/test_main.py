"""The trainer's command line, from data to a backtest, and how it refuses."""

import json

import numpy as np
import pytest

from streamer.adapters.onnx_session import OnnxModel
from streamer.errors import ConfigError
from tests.training.conftest import START, config_of, hourly, untrained
from training import api
from training.__main__ import main
from training.export import onnx_bytes

CONFIG = """
name: tiny
horizon: 6
levels: [0.1, 0.5, 0.9]
split: {train_end: 200, validation_end: 300}
model: {cell: rnn, hidden: 4, head: 4, seasons: [24], memory_steps: 48}
training: {steps: 4, batch: 4, window: 40, warmup: 8, validate_every: 2, threads: 1}
"""


def lines(series):
    values = [None if np.isnan(v) else v for v in series.target]
    return (
        json.dumps({"stream": series.stream, "ts": int(t), "value": v})
        for t, v in zip(series.time, values, strict=True)
    )


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with a config and data of two streams; also the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    text = "\n".join(line for i in range(2) for line in lines(hourly(360, i, f"s{i}")))
    (tmp_path / "data.jsonl").write_text(text + "\n")
    return tmp_path


def test_fit_writes_a_checkpoint_and_a_model_that_export_and_backtest_take(files, capfd):
    assert main(["fit", "tiny.yaml", "--data", "data.jsonl", "--output", "model.onnx"]) == 0
    said = " ".join(capfd.readouterr().err.split())
    costs = ("bytes of state per stream", "one step of 1 streams", "one step of 1024 streams", "a bare rnn of 4")
    assert all(cost in said for cost in costs)
    manifest = OnnxModel("model.onnx").manifest
    assert manifest.model_id == "tiny@1"
    assert manifest.data_digest is not None
    assert manifest.scores is not None
    assert main(["export", "runs/tiny.pt", "--output", "again.onnx"]) == 0
    assert (files / "again.onnx").read_bytes() == (files / "model.onnx").read_bytes()
    capfd.readouterr()
    arguments = ["backtest", "model.onnx", "--config", "tiny.yaml", "--data", "data.jsonl", "--stride", "10"]
    assert main([*arguments, "--json", "new/scores.json", "--per-stream"]) == 0
    assert "seasonal naive" in capfd.readouterr().out
    scores = json.loads((files / "new" / "scores.json").read_text())["scores"]
    assert len(scores) == 9 * 7  # 2 streams and the mean, 3 forecasters; all leads and each of 6
    assert main([*arguments, "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["season"] is None


def test_a_fit_whose_scoring_ends_badly_is_not_lost(files, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("training.commands._test_scores", killed)
    with pytest.raises(KeyboardInterrupt):
        main(["fit", "tiny.yaml", "--data", "data.jsonl"])
    assert main(["export", "runs/tiny.pt", "--output", "model.onnx"]) == 0


def test_a_stream_that_stands_still_in_the_test_part_is_fitted_scored_and_reported(files):
    rows = [f'{{"stream":"a","ts":{START + i * 3_600_000},"value":{5 + (i % 100 == 0)}}}' for i in range(400)]
    (files / "still.jsonl").write_text("\n".join(rows[:380]) + "\n")
    (files / "still.yaml").write_text(
        CONFIG.replace("train_end: 200, validation_end: 300", "train_end: 205, validation_end: 305")
    )
    assert main(["fit", "still.yaml", "--data", "still.jsonl", "--checkpoint", "still.pt"]) == 0
    assert main(["report", "still.pt", "--output", "still.html"]) == 0


def test_a_backtest_scores_the_split_of_the_fit_and_says_so(files, capfd):
    assert main(["fit", "tiny.yaml", "--data", "data.jsonl", "--output", "model.onnx"]) == 0
    backtest = ["backtest", "model.onnx", "--data", "data.jsonl", "--stride", "10"]
    capfd.readouterr()

    def said_and_split(*more):
        assert main([*backtest, *more, "--json", "-"]) == 0
        out, said = capfd.readouterr()
        return said, json.loads(out)["split"]["validation_end"]

    said, split = said_and_split()
    assert split == 300
    assert said == "scored: each stream from 300 to the end (a share, steps or a time)\n"
    (files / "other.yaml").write_text(CONFIG.replace("validation_end: 300", "validation_end: 250"))
    said, split = said_and_split("--config", "other.yaml")
    assert split == 250
    assert "the model was fitted to 200 and chosen to 300, by another split" in said
    with (files / "data.jsonl").open("a") as data:
        data.write(f'{{"stream":"s0","ts":{START + 360 * 3_600_000},"value":1}}\n')
    assert "the data are not those of the fit" in said_and_split()[0]


def test_a_model_that_does_not_say_its_split_is_not_scored_in_silence(files, capfd):
    series = [hourly(360, i, f"s{i}") for i in range(2)]
    fitted = untrained(config_of(), series)
    (files / "model.onnx").write_bytes(onnx_bytes(fitted.network, fitted.manifest.model_copy(update={"scores": None})))
    assert main(["backtest", "model.onnx", "--data", "data.jsonl", "--stride", "10", "--json", "-"]) == 0
    out, said = capfd.readouterr()
    assert json.loads(out)["split"]["validation_end"] == 0.85
    assert "does not say by which split it was fitted, so this may be what it was trained on" in said
    with pytest.raises(ConfigError, match="does not say by which it was fitted; name one"):
        api.backtest(files / "model.onnx", series)


def test_folds_refuse_the_flags_that_they_do_not_use(files, capfd):
    for flag, value in (("--config", "absent.yaml"), ("--season", "7")):
        assert main(["backtest", "tiny.yaml", "--data", "data.jsonl", "--folds", "2", flag, value]) == 2
        assert f"{flag}: not used with --folds" in capfd.readouterr().err


def test_events_prints_the_lines_in_time_order(files, capfdbinary):
    assert main(["events", "data.jsonl"]) == 0
    events = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert len(events) == 720
    assert [e["ts"] for e in events] == sorted(e["ts"] for e in events)
    assert events[0].keys() == {"stream", "ts", "value"}
    assert events[0]["ts"] == START


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fit", "absent.yaml"], "absent.yaml: cannot be read"),
        (["fit", "tiny.yaml"], "data.path: no data"),
        (["fit", "tiny.yaml", "--data", "absent.csv"], "absent.csv: cannot be read"),
        (["export", "absent.pt", "--output", "m.onnx"], "absent.pt: cannot be read"),
        (["backtest", "absent.onnx", "--data", "data.jsonl"], "absent.onnx"),
        (["events", "tiny.yaml"], "expected a name ending in .parquet"),
        (["fit", "tiny.yaml", "--data", "data.jsonl", "--output", "/proc/x/m.onnx"], "its folder cannot be made"),
        (["fit", "tiny.yaml", "--data", "data.jsonl", "--output", "."], "expected a file to write, found a folder"),
    ],
)
def test_what_cannot_be_used_ends_with_exit_code_2_and_a_reason(files, capfd, arguments, expected):
    assert main(arguments) == 2
    assert expected in capfd.readouterr().err


def test_a_folder_that_may_not_be_written_to_is_refused_before_the_work(files, capfd, monkeypatch):
    monkeypatch.setattr("training.commands.os.access", lambda *_: False)
    assert main(["fit", "tiny.yaml", "--data", "data.jsonl"]) == 2
    assert "runs/tiny.pt: its folder may not be written to" in capfd.readouterr().err


def test_the_other_commands_work_on_what_fit_left(files, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    data = ["--data", "data.jsonl"]
    assert main(["fit", "tiny.yaml", *data, "--tensorboard", "logs"]) == 0
    assert list((files / "logs").glob("events.out.tfevents.*"))
    assert main(["report", "runs/tiny.pt", "--output", "out/report.html", "--stride", "5"]) == 0
    assert (files / "out" / "report.html").stat().st_size > 10_000
    capfd.readouterr()
    assert main(["backtest", "tiny.yaml", *data, "--folds", "2", "--per-lead"]) == 0
    assert "mean (fold 2)" in capfd.readouterr().out
    assert main(["speed", "tiny.yaml", *data]) == 0
    assert "ratio" in capfd.readouterr().err


def test_a_fit_that_was_not_cut_short_cannot_be_resumed(files, capfd):
    assert main(["fit", "tiny.yaml", "--data", "data.jsonl", "--resume"]) == 2
    assert "there is no fit to resume" in capfd.readouterr().err


def test_a_fit_whose_checkpoint_cannot_be_kept_goes_on_from_its_last_validation(files, monkeypatch):
    def full(fitted, path):
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("training.commands.save_checkpoint", full)
        with pytest.raises(OSError, match="no space"):
            main(["fit", "tiny.yaml", "--data", "data.jsonl"])
    assert main(["fit", "tiny.yaml", "--data", "data.jsonl", "--resume"]) == 0
    assert (files / "runs" / "tiny.pt").exists()
    assert not (files / "runs" / "tiny.progress").exists()
