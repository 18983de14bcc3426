"""Prometheus' own programs, where this machine has them (Debian: `apt-get install prometheus`)."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "helm" / "tidecast" / "alerts.yaml"


def program(name: str) -> str:
    """Path of `prometheus` or `promtool`; skips the test where there is none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} (Debian package prometheus)")
    return found


def promtool(*arguments: str) -> str:
    """What promtool says; AssertionError with it where it fails."""
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
