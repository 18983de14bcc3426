"""`streamer replay`: a file of events becomes a file of forecasts, and what cannot be used is counted."""

import io
import json
import subprocess
import sys

import pytest

from streamer.__main__ import main
from streamer.adapters.onnx_session import OnnxModel
from streamer.batches import MAX_BATCH_NUMBERS, MAX_BATCH_STEPS
from streamer.core.wire import ForecastEncoder
from streamer.replay import replay
from tests import models
from tests.drive import batches, event, new_engine, records


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(models.save(models.echo(), tmp_path_factory.mktemp("model") / "echo.onnx"))


@pytest.fixture
def events(tmp_path):
    path = tmp_path / "events.jsonl"
    lines = [json.dumps(e) for e in (event("a", 1, 5), event("b", 1, 7), event("a", 1, 6), event("a", 2, 8))]
    path.write_text("\n".join([*lines, "nonsense"]) + "\n")
    return path


def test_each_accepted_line_has_its_forecast_and_the_rest_is_counted(model, events, tmp_path, capsys):
    output = tmp_path / "forecasts.jsonl"
    assert main(["replay", "--model", model, "--input", str(events), "--output", str(output)]) == 0
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(f["id"], f["quantiles"]["0.5"][0]) for f in found] == [
        ("events.jsonl-0-0", 6.0),
        ("events.jsonl-0-1", 8.0),
        ("events.jsonl-0-3", 10.0),
    ]
    assert capsys.readouterr().err == "consumed=5 accepted=3 rejected=2 duplicate=1 not_json=1\n"


def test_it_reads_and_writes_standard_streams(model, events):
    command = [sys.executable, "-m", "streamer", "replay", "--model", model, "--input", "-", "--output", "-"]
    done = subprocess.run(command, input=events.read_bytes(), capture_output=True, timeout=120, check=True)
    ids = [json.loads(line)["id"] for line in done.stdout.splitlines()]
    assert ids == ["stdin-0-0", "stdin-0-1", "stdin-0-3"]


def test_it_ends_quietly_when_its_reader_has_seen_enough(model, events):
    command = f"{sys.executable} -m streamer replay --model {model} --input {events} --output - | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=True)
    assert "Traceback" not in done.stderr


def test_input_settings_hold_for_a_replay_too(model, events, tmp_path):
    output = tmp_path / "forecasts.jsonl"
    arguments = ["replay", "--model", model, "--input", str(events), "--output", str(output)]
    assert main([*arguments, "--input.fields.value", "reading"]) == 0
    assert output.read_text() == ""


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("--model", "absent.onnx", "model.path: cannot read 'absent.onnx'"),
        ("--input", "absent.jsonl", "--input: cannot read 'absent.jsonl'"),
        ("--output", "absent/f.jsonl", "--output: cannot write 'absent/f.jsonl'"),
        ("--input.slots", "nearest", "input.slots"),
        ("--input.slot", "middle", "input.slot"),
        ("--model.providers", '["NoSuchProvider"]', "NoSuchProvider"),
    ],
)
def test_a_wrong_argument_is_named_and_ends_it_with_2(model, events, tmp_path, capsys, argument, value, message):
    arguments = {"--model": model, "--input": str(events), "--output": str(tmp_path / "f"), argument: value}
    assert main(["replay", *(word for pair in arguments.items() for word in pair)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("streamer replay: ")
    assert message in error


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not an ONNX model"), (b"garbage", "not an ONNX model"), (None, 'no "tidecast.manifest"')],
)
def test_a_file_that_is_no_model_is_refused_with_2(events, tmp_path, capsys, content, message):
    path = tmp_path / "model.onnx"
    if content is None:
        models.save(models.without_manifest(models.echo()), path)
    else:
        path.write_bytes(content)
    output = tmp_path / "f.jsonl"
    assert main(["replay", "--model", str(path), "--input", str(events), "--output", str(output)]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_a_state_that_broke_is_counted(model, tmp_path, capsys):
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(json.dumps(event("a", hour, value)) for hour, value in ((1, 5), (2, -999), (3, 6))))
    assert main(["replay", "--model", model, "--input", str(path), "--output", str(tmp_path / "f")]) == 0
    assert capsys.readouterr().err == "consumed=3 accepted=3 rejected=0 resets=1\n"


@pytest.mark.parametrize(("field", "special"), [("stream", "$key"), ("ts", "$timestamp")])
def test_a_layout_that_needs_a_kafka_record_is_refused_with_2(model, events, tmp_path, capsys, field, special):
    arguments = ["replay", "--model", model, "--input", str(events), "--output", str(tmp_path / "f")]
    assert main([*arguments, f"--input.fields.{field}={special}"]) == 2
    assert f"input.fields.{field}: found {special}, but lines of a file have neither keys" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()


def test_a_full_standard_output_ends_it_with_2_and_one_message(model, events):
    command = f"{sys.executable} -m streamer replay --model {model} --input {events} --output - > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "streamer replay: standard output: cannot write to its end: No space left on device; name another file\n"
    )


def test_output_settings_hold_for_a_replay_too(model, events, tmp_path):
    output = tmp_path / "forecasts.jsonl"
    arguments = ["replay", "--model", model, "--input", str(events), "--output", str(output)]
    assert main([*arguments, "--output.every", "3", "--output.leads", "1", "--output.levels", "0.5"]) == 0
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(f["id"], f["leads"], f["quantiles"]) for f in found] == [
        ("events.jsonl-0-0", [1], {"0.5": [6.0]}),
        ("events.jsonl-0-1", [1], {"0.5": [8.0]}),
    ]


def replayed(path, source):
    """The lines that a replay writes, and what came out of each batch."""
    model = OnnxModel(path)
    sink, outcomes = io.BytesIO(), []
    replay(new_engine(model), ForecastEncoder(model.manifest), source, sink, outcomes.append)
    return sink.getvalue().splitlines(), outcomes


def test_a_long_horizon_is_forecast_in_small_batches_with_the_same_lines(tmp_path):
    horizon, levels = 2_000, 3
    path = models.save(models.echo(horizon=horizon), tmp_path / "long.onnx")
    events = [event("ab"[i % 2], 1 + i // 2, i) for i in range(500)] + [b"nonsense"]
    lines, outcomes = replayed(path, [records(events)])
    forecasts = [len(outcome.forecasts[0]) for outcome in outcomes]
    assert max(forecasts) * horizon * levels <= MAX_BATCH_NUMBERS
    assert sum(forecasts) == len(lines) == 500
    assert lines == replayed(path, batches(events, [1, 7, 30, 1] * 10))[0]


def test_gaps_make_the_next_batch_of_a_replay_smaller(model):
    gap = 160
    events = [event(f"s{i % 10}", gap * (1 + i // 10), i) for i in range(1_000)]
    _, outcomes = replayed(model, batches(events, [10, 100]))  # streams begin; some gaps; the rest in one piece
    steps = [outcome.steps for outcome in outcomes]
    assert sum(steps) == 10 + 990 * gap
    assert max(steps) <= MAX_BATCH_STEPS
