"""The watchdog: whom it ends, and whom not."""

import subprocess
import sys

import pytest

from streamer import watchdog
from streamer.watchdog import EXIT_STUCK, LIMIT_SECONDS, LOOKS, Watchdog


@pytest.mark.parametrize(
    ("idle", "ends"),
    [
        ([LIMIT_SECONDS + 5 * i for i in range(LOOKS + 1)], 1),
        ([1.0] * 9, 0),
        ([9999.0, 0.0] * 9, 0),  # stopped and continued again and again: it turns as soon as it wakes
        ([LIMIT_SECONDS] * 9, 0),
    ],
)
def test_it_ends_a_process_whose_loop_was_seen_not_to_turn_and_no_other(idle, ends):
    ended: list[float] = []
    seen = iter(idle)
    dog = Watchdog(lambda: next(seen), ended.append)
    for _ in idle:
        dog.look()
    assert len(ended) == ends


def test_it_ends_a_process_that_is_stuck_for_good_and_says_where():
    code = """
from threading import Event, Lock
from streamer import logs, watchdog
watchdog.LOOK_SECONDS = 0.01
logs.set_up()
with watchdog.Watchdog(lambda: 1000.0, watchdog.end_process).watching():
    Event().wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == EXIT_STUCK
    assert "event=stuck" in done.stderr
    assert "most recent call first" in done.stderr


def test_it_stops_looking_when_the_run_is_over(monkeypatch):
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.001)
    ended: list[float] = []
    with Watchdog(lambda: 0.0, ended.append).watching():
        pass
    assert ended == []
