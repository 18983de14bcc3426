"""Wait for a condition instead of sleeping: tests then depend on what happens, never on the machine's speed."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.02


def eventually(
    condition: Callable[[], T], what: str, timeout_seconds: float = 60.0, poll_seconds: float = POLL_SECONDS
) -> T:
    """The condition's first true value; AssertionError, saying what was awaited, if there is none in time."""
    deadline = time.monotonic() + timeout_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_seconds:g} s: {what}; the condition is {value!r}"
        time.sleep(poll_seconds)
    return value
