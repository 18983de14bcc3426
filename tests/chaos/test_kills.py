"""kill -9 at every point where it could hurt, and at random ones."""

import random
import time

import pytest

from tests.chaos.failpoints import POINTS
from tests.chaos.scene import Scene, scene
from tests.chaos.workload import Workload
from tests.integration.waiting import eventually

# how often a point is passed before it kills: early, and in the middle of things
TIMES = {"after-produce": (1, 4_000), "mid-block": (1, 40), "during-restore": (1, 12), "during-revoke": (1, 1)}
SIGKILL = -9


def killed_at(made: Scene, point: str, kills: int, chance: random.Random) -> int:
    """Start daemons that die at the point, one after another; how many did before the work was done."""
    died = 0
    while died < kills and made.done() < made.workload.events:
        low, high = TIMES.get(point, (1, 12))
        daemon = made.start("a", f"{point}:{chance.randint(low, high)}")
        if point == "during-revoke":
            eventually(lambda d=daemon: d.get("/readyz") or d.process.poll() is not None, "the first daemon serves")
            made.start("b")
        eventually(lambda d=daemon: d.process.poll() is not None or made.done() >= made.workload.events, "killed", 120)
        died += daemon.process.poll() == SIGKILL
        made.close()
    return died


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_changes_nothing_that_readers_see(bootstrap, tmp_path, capsys, point, kills, events):
    with scene(bootstrap, tmp_path, Workload(events)) as made:
        made.feed()
        died = killed_at(made, point, kills, random.Random(point))
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
