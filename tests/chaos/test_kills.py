"""kill -9 at every point where it could hurt, and at random ones."""

import random
import time

import pytest

from tests.chaos.failpoints import POINTS
from tests.chaos.feeding import Feeding
from tests.chaos.members import ready
from tests.chaos.scene import Scene
from tests.integration.waiting import eventually

# how often a point is passed before it kills: early, and in the middle of things
TIMES = {
    "after-poll": (1, 12),
    "mid-block": (10, 40),  # the first ones are the dry run
    "after-produce": (1, 12),
    "during-restore": (1, 12),  # six partitions: position, ends, and what there is to read
}
OFTEN = (1, 4)
MESSAGES = 150  # kafka-python is given one at a time, librdkafka a partition's at once
SIGKILL = -9
DEATH_SECONDS = 300
RANDOM_KILLS = 30


def kill_at(made: Scene, point: str, nth: int) -> bool:
    """A daemon that dies at the point; whether it did, before the work was done."""
    daemon = made.start("a", f"{point}:{nth}")
    eventually(
        lambda: daemon.process.poll() is not None or made.done() >= made.workload.events, "killed", DEATH_SECONDS
    )
    daemon.kill()
    return daemon.process.returncode == SIGKILL


def kill_in_restore(made: Scene, nth: int) -> bool:
    """A daemon that dies while it restores what another, killed before, has left: snapshots, and input to replay."""
    before = made.done()
    first = made.start("a")
    eventually(lambda: made.done() > before, "something to restore", DEATH_SECONDS)
    first.kill()
    return kill_at(made, "during-restore", nth)


def kill_in_handover(made: Scene) -> bool:
    """A daemon that dies when a second one is to get partitions of it."""
    daemon = made.start("a", "during-revoke:1")
    ready([daemon])
    heir = made.start("b")
    eventually(lambda: daemon.process.poll() is not None, "killed", DEATH_SECONDS)
    heir.kill()
    return daemon.process.returncode == SIGKILL


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_changes_nothing_that_readers_see(new_scene, say, point, kills, workload):
    chance = random.Random(point)
    with new_scene() as made:
        records, events = workload.records(), workload.events
        died = 0
        for i in range(kills):
            made.feed(records[i * events // kills : (i + 1) * events // kills])
            nth = chance.randint(*TIMES.get(point, OFTEN))
            if point == "after-produce" and made.client == "kafka-python":
                nth *= MESSAGES
            if point == "during-revoke":
                died += kill_in_handover(made)
            elif point == "during-restore":
                died += kill_in_restore(made, nth)
            else:
                died += kill_at(made, point, nth)
        made.start()
        made.await_done()
        verdict = made.verdict()
        say(f"kill {point}", f"kills={died} {verdict}")
        assert verdict.is_clean, verdict
        assert died == kills


@pytest.mark.chaos
def test_thirty_kills_at_random_times_change_nothing_that_readers_see(new_scene, say):
    chance = random.Random(2)
    with new_scene() as made, made.streaming() as feeding:
        at_work = sum(kill_at_random(made, feeding, chance, i) for i in range(RANDOM_KILLS))
        feeding.rest()
        made.start()
        made.await_done()
        verdict = made.verdict()
        say("random kills", f"kills={RANDOM_KILLS} at_work={at_work} {verdict}")
        assert verdict.is_clean, verdict
        assert at_work >= RANDOM_KILLS / 2


def kill_at_random(made: Scene, feeding: Feeding, chance: random.Random, number: int) -> bool:
    """A daemon that dies within a second of being ready, or, each third, of serving at all, amid its restore.

    Returns whether there was something to do.
    """
    assert feeding.left, "the workload was over before the kills were"
    daemon = made.start()
    page = "/metrics" if number % 3 == 0 else "/readyz"
    eventually(lambda: daemon.get(page), f"the daemon's {page}", DEATH_SECONDS)
    time.sleep(chance.uniform(0, 1))  # the moment of death is the chance of this test, not a wait
    daemon.kill()
    return feeding.fed > sum(made.committed().values())
