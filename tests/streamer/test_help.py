"""What the commands' help says."""

import pytest

from streamer.__main__ import main
from streamer.settings import SCHEMA


def help_of(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    return capsys.readouterr().out


def test_the_help_of_run_lists_every_setting(capsys):
    text = help_of("run", capsys)
    assert [o.name for o in SCHEMA.options.values() if f"--{o.name}\n" not in text] == []
    assert "--config FILE" in text


def test_the_help_of_replay_says_which_settings_it_takes(capsys):
    assert "--input, --output and --state.* flags" in " ".join(help_of("replay", capsys).split())
