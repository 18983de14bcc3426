"""Processes that join, leave, die and come back while events stream in."""

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.chaos.scene import Scene, scene
from tests.chaos.workload import Workload
from tests.integration.daemon import Streamer
from tests.integration.waiting import eventually

pytestmark = pytest.mark.chaos


@contextmanager
def streaming(made: Scene, parts: int = 40) -> Iterator[threading.Event]:
    """Feed the workload bit by bit in the background; the event is set when all is in."""
    records, fed = made.workload.records(), threading.Event()
    share = -(-len(records) // parts)

    def run() -> None:
        for at in range(0, len(records), share):
            made.feed(records[at : at + share])
        fed.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield fed
    finally:
        thread.join()


def ready(daemons: Sequence[Streamer]) -> None:
    for daemon in daemons:
        eventually(lambda d=daemon: d.get("/readyz"), "a daemon is ready")


def progressed(made: Scene, records: int = 2_000) -> None:
    """Until the group has committed some more."""
    wanted = min(made.done() + records, made.workload.events)
    eventually(lambda: made.done() >= wanted, f"{wanted} committed", 180)


def finish(made: Scene, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    made.await_done()
    verdict = made.verdict()
    with capsys.disabled():
        print(f"\n{name}: {verdict}")
    assert verdict.is_clean, verdict


@pytest.mark.parametrize("static", [True, False])
def test_members_that_join_leave_and_restart_in_turn(bootstrap, tmp_path, capsys, static):
    with scene(bootstrap, tmp_path, Workload()) as made, streaming(made):
        daemons = {name: made.start(name, static=static) for name in "a"}
        ready(list(daemons.values()))
        for name in "bc":
            daemons[name] = made.start(name, static=static)
            progressed(made)
        ready(list(daemons.values()))
        for name in "abc":  # a rolling restart
            assert daemons[name].stop() == 0
            daemons[name] = made.start(name, static=static)
            ready([daemons[name]])
            progressed(made)
        assert daemons["b"].stop() == 0
        finish(made, f"join, leave, rolling restart, static={static}", capsys)


@pytest.mark.parametrize("victims", ["b", "bc"])
def test_members_that_are_killed_one_or_two_at_once(bootstrap, tmp_path, capsys, victims):
    with scene(bootstrap, tmp_path, Workload()) as made, streaming(made):
        daemons = {name: made.start(name, static=False) for name in "abc"}
        ready(list(daemons.values()))
        progressed(made)
        for name in victims:
            daemons[name].process.kill()
        progressed(made)
        for name in victims:
            daemons[name] = made.start(name + "2", static=False)
        finish(made, f"killed: {victims}", capsys)


def test_a_zombie_that_wakes_up_publishes_nothing(bootstrap, tmp_path, capsys):
    with scene(bootstrap, tmp_path, Workload()) as made, streaming(made):
        zombie = made.start("a", static=False)
        ready([zombie])
        progressed(made)
        zombie.process.send_signal(signal.SIGSTOP)
        heir = made.start("b", static=False)
        eventually(lambda: heir.metric("streamer_assigned_partitions") == made.workload.partitions, "all taken over")
        ready([heir])
        progressed(made)
        zombie.process.send_signal(signal.SIGCONT)
        progressed(made)
        finish(made, "zombie", capsys)


def test_how_long_a_take_over_takes(bootstrap, tmp_path, capsys):
    with scene(bootstrap, tmp_path, Workload(), more={"kafka.options": {}}) as made, streaming(made):
        first = made.start("a", static=False)
        ready([first])
        progressed(made)
        heir = made.start("b", static=False)
        ready([heir])
        begun = time.monotonic()
        first.process.kill()
        owned = made.workload.partitions
        eventually(lambda: heir.metric("streamer_assigned_partitions") == owned, "all taken over", 120)
        assigned = time.monotonic() - begun
        eventually(lambda: heir.get("/readyz"), "restored", 120)
        with capsys.disabled():
            print(f"\ntake-over: assigned after {assigned:.1f} s, restored after {time.monotonic() - begun:.1f} s")
        finish(made, "take-over", capsys)
