"""The command line run in this process, configured by flags."""

import json
from collections.abc import Mapping

import pytest

from streamer.__main__ import main


def streamer(capsys: pytest.CaptureFixture[str], settings: Mapping[str, object], *command: str) -> tuple[int, str]:
    """A command's exit status and what it wrote."""
    capsys.readouterr()
    flags = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in settings.items()]
    status = main([*command, *flags])
    written = capsys.readouterr()
    return status, written.out + written.err
