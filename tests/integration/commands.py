"""The command line run in this process, configured by its environment as `daemon.Streamer` is."""

import json
from collections.abc import Mapping

import pytest

from streamer.__main__ import main


def streamer(capsys: pytest.CaptureFixture[str], settings: Mapping[str, object], *command: str) -> tuple[int, str]:
    """A command's exit status and what it wrote."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in settings.items():
            text = value if isinstance(value, str) else json.dumps(value)
            environment.setenv("STREAMER_" + name.upper().replace(".", "__"), text)
        status = main(command)
    written = capsys.readouterr()
    return status, written.out + written.err
