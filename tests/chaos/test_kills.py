"""kill -9 at every point where it could hurt, and at random ones."""

import random
import time

import pytest

from tests.chaos.failpoints import POINTS
from tests.chaos.scene import Scene, scene
from tests.chaos.workload import Workload
from tests.integration.waiting import eventually

# how often a point is passed before it kills: early, and in the middle of things
TIMES = {
    "after-poll": (1, 12),
    "mid-block": (10, 40),  # the first ones are the dry run
    "after-produce": (1, 2_000),
    "during-restore": (1, 12),
}
OFTEN = (1, 4)
SIGKILL = -9


def kill_at(made: Scene, point: str, nth: int) -> bool:
    """A daemon that dies at the point; whether it did, before the work was done."""
    daemon = made.start("a", f"{point}:{nth}")
    eventually(lambda: daemon.process.poll() is not None or made.done() >= made.workload.events, "killed", 120)
    killed = daemon.process.poll() == SIGKILL
    made.close()
    return killed


def kill_at_handover(made: Scene) -> bool:
    """A daemon that dies when a second one is to get partitions of it."""
    daemon = made.start("a", "during-revoke")
    eventually(lambda: daemon.get("/readyz"), "the first daemon serves")
    made.start("b")
    eventually(lambda: daemon.process.poll() is not None, "killed", 120)
    made.close()
    return daemon.process.poll() == SIGKILL


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_changes_nothing_that_readers_see(bootstrap, tmp_path, capsys, point, kills, events):
    chance = random.Random(point)
    with scene(bootstrap, tmp_path, Workload(events)) as made:
        records = made.workload.records()
        died = 0
        for i in range(kills):
            made.feed(records[i * events // kills : (i + 1) * events // kills])
            nth = chance.randint(*TIMES.get(point, OFTEN))
            died += kill_at_handover(made) if point == "during-revoke" else kill_at(made, point, nth)
        made.start()
        made.await_done()
        verdict = made.verdict()
        with capsys.disabled():
            print(f"\n{point}: kills={died} {verdict}")
        assert verdict.is_clean, verdict
        assert died == kills


@pytest.mark.chaos
def test_thirty_kills_at_random_times_change_nothing_that_readers_see(bootstrap, tmp_path, capsys):
    chance = random.Random(2)
    with scene(bootstrap, tmp_path, Workload()) as made:
        records = made.workload.records()
        share = len(records) // 30
        for i in range(30):
            made.feed(records[i * share : (i + 1) * share if i < 29 else None])
            daemon = made.start()
            eventually(lambda d=daemon: d.get("/readyz"), "the daemon is ready")
            time.sleep(chance.uniform(0, 1))  # the moment of death is the chance of this test, not a wait
            daemon.kill()
        made.start()
        made.await_done()
        verdict = made.verdict()
        with capsys.disabled():
            print(f"\nrandom kills: kills=30 {verdict}")
        assert verdict.is_clean, verdict
