"""A flag that would have no effect is refused, so that nobody believes it had one."""

import subprocess
import sys

import pytest

from streamer.__main__ import main

REPLAY = ["replay", "--model", "m.onnx", "--input", "-", "--output", "-"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--model.path", "x"], "flag --model.path: this command does not read it; remove it (it reads no"),
        (["demo", "--config", "x"], "flag --config: this command does not read it"),
        (["demo", "--events", "--kafka.group_id", "g"], "flag --kafka.group_id: this command does not read it"),
        (["demo", "--produce", "t", "--http.port", "1"], "flag --http.port: this command does not read it"),
        (["demo", "--keyed"], "--keyed: found without --events"),
        (["demo", "--events", "--produce", "t"], "--produce: found with --events"),
        (["demo", "--events", "--output", "f"], "--output: found with --events"),
        (["demo", "--produce", "t", "--output", "f"], "--output: found with --produce"),
        ([*REPLAY, "--kafka.group_id", "g"], "flag --kafka.group_id: this command does not read it"),
        ([*REPLAY, "--http={}"], "(it reads --model.* and --input.* and --output.* and --state.*)"),
        (["topics", "create", "--input.topics=t", "--model.path=m"], "flag --model.path: this command does not"),
        (["state", "show", "a", "--output.topic=t"], "flag --output.topic: this command does not read it"),
        (["state", "reset", "--model.path=m"], "flag --model.path: this command does not read it"),
    ],
)
def test_a_flag_without_effect_is_refused_with_2(capsys, arguments, message):
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""


def test_a_variable_of_another_command_is_none_of_its_business(capsysbinary, monkeypatch):
    monkeypatch.setenv("STREAMER_MODEL__PATH", "m.onnx")
    assert main(["demo", "--events"]) == 0
    assert capsysbinary.readouterr().out.startswith(b'{"stream":')


def test_a_misspelt_flag_is_still_called_unknown(capsys):
    assert main(["demo", "--modle.path", "x"]) == 2
    assert "flag --modle.path: there is no such setting" in capsys.readouterr().err


def test_a_full_standard_output_ends_the_demo_s_events_with_2():
    command = f"{sys.executable} -m streamer demo --events > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("streamer demo: standard output: cannot write to its end: No space left on device")
