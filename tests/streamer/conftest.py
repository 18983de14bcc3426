"""What the tests of settings share."""

import pytest


@pytest.fixture
def file(tmp_path):
    """Writes a settings file; returns the flag that names it."""

    def write(text: str) -> str:
        path = tmp_path / "streamer.yaml"
        path.write_text(text, "utf-8")
        return f"--config={path}"

    return write
