"""Processes that join, leave, die and come back while events stream in."""

import re
import signal
import time
from pathlib import Path

import pytest

from tests.chaos.members import after, finish, ready, shared
from tests.integration.waiting import eventually

pytestmark = pytest.mark.chaos

EXIT_SECONDS = 180
SESSION_SECONDS = 4.0  # more than the 3 s after which the group gives the zombie's place away


@pytest.mark.parametrize("static", [True, False])
def test_members_that_join_leave_and_restart_in_turn(new_scene, say, static):
    with new_scene() as made, made.streaming() as feeding:
        daemons = {"a": made.start("a", static=static)}
        ready(list(daemons.values()))
        for name in "bc":  # join
            daemons[name] = made.start(name, static=static)
            shared(made, list(daemons.values()))
            made.await_progress(feeding)
        for name in "abc":  # a rolling restart
            assert daemons[name].stop() == 0
            daemons[name] = made.start(name, static=static)
            ready([daemons[name]])
            made.await_progress(feeding)
        assert daemons.pop("b").stop() == 0  # leave: a static one's partitions wait for it, for a session timeout
        shared(made, list(daemons.values()))
        made.await_progress(feeding)
        finish(made, feeding, "join, rolling restart, leave", say, f"static={static}")


@pytest.mark.parametrize("victims", ["b", "bc"])
@pytest.mark.parametrize("static", [True, False])
def test_members_that_are_killed_one_or_two_at_once(new_scene, say, victims, static):
    with new_scene() as made, made.streaming() as feeding:
        daemons = {name: made.start(name, static=static) for name in "abc"}
        shared(made, list(daemons.values()))
        made.await_progress(feeding)
        for name in victims:
            daemons[name].process.kill()
        left = [daemons[name] for name in "abc" if name not in victims]
        shared(made, left)
        made.await_progress(feeding)
        for name in victims:
            daemons[name].kill()
            daemons[name] = made.start(name, static=static)
        shared(made, list(daemons.values()))
        finish(made, feeding, f"killed: {' and '.join(victims)} of abc", say, f"static={static}")


@pytest.mark.parametrize(
    ("point", "static"),
    [("after-poll", False), ("after-produce", False), ("before-offsets", False), ("before-commit", False),
     ("after-produce", True), ("before-commit", True)],
)  # fmt: skip
def test_a_zombie_that_wakes_up_is_fenced_and_publishes_nothing(new_scene, say, static, point):
    """It stops in the middle of a transaction, after some, and wakes when its heir has done its work.

    A zombie whose name the heir has is to end; one that was merely away too long loses what it had, and may join.
    """
    with new_scene() as made, made.streaming() as feeding:
        passed = 800 if (point, made.client) == ("after-produce", "kafka-python") else 5 if static else 12
        zombie = made.start("a", f"{point}:{passed}:SIGSTOP", static=static)
        eventually(lambda: _is_stopped(zombie.process.pid), "the zombie stops", EXIT_SECONDS)
        stopped = time.monotonic()
        heir = made.start("a" if static else "b", static=static)
        eventually(lambda: heir.metric("streamer_assigned_partitions") == made.workload.partitions, "taken over", 180)
        ready([heir])
        made.await_progress(feeding)
        after(stopped + SESSION_SECONDS - time.monotonic())
        away = time.monotonic() - stopped
        zombie.process.send_signal(signal.SIGCONT)
        if static:
            assert zombie.process.wait(EXIT_SECONDS) == 1
            assert re.search(r"another process\b.* has taken the (place|name)", zombie.log), zombie.log
        else:
            lost = 'streamer_transactions_total{result="%s"}'
            refusals = [lost % result for result in ("aborted", "refused", "unknown")]
            eventually(lambda: sum(map(zombie.metric, refusals)), "the zombie's transaction is refused", EXIT_SECONDS)
        made.await_progress(feeding)
        finish(made, feeding, f"zombie {point}", say, f"static={static} stopped for {away:.0f} s,")


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_kill_under_the_default_time_limits(new_scene, say):
    with new_scene(more={"kafka.options": {}}) as made, made.streaming() as feeding:
        first = made.start("a", static=False)
        ready([first])
        heir = made.start("b", static=False)
        shared(made, [first, heir])
        made.await_progress(feeding)
        begun = time.monotonic()
        first.process.kill()
        shared(made, [heir])
        finish(made, feeding, "killed, default limits", say, f"taken over after {time.monotonic() - begun:.1f} s,")
