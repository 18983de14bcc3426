"""Three brokers with three copies of everything: each stopped, killed and restarted while events stream in."""

from collections import Counter
from contextlib import closing

import pytest
from kafka import KafkaAdminClient

from tests.chaos.members import Kept, after, finish, ready
from tests.chaos.scene import Scene
from tests.integration.waiting import eventually

pytestmark = pytest.mark.chaos

DARK_SECONDS = 60
GROUP, TRANSACTION = 0, 1  # kinds of coordinators
# a broker that comes back leads again at once, so that the next failure of any of them hurts, too
LEADERS_RETURN = {"leader.imbalance.check.interval.seconds": 1, "leader.imbalance.per.broker.percentage": 0}


@pytest.fixture
def cluster(make_cluster):
    made = make_cluster(brokers=3, settings=LEADERS_RETURN)
    made.start()
    return made


def duties(made: Scene, members: str) -> dict[int, Counter[str]]:
    """What each broker is in charge of: partitions it leads, and what it coordinates, by its number."""
    found: dict[int, Counter[str]] = {1: Counter(), 2: Counter(), 3: Counter()}
    with closing(KafkaAdminClient(bootstrap_servers=made.eyes)) as admin:
        for topic in admin.describe_topics([made.input, made.output, made.changelog]):
            for partition in topic["partitions"]:
                if partition["leader_id"] in found:
                    found[partition["leader_id"]]["leads"] += 1
        find = admin._find_coordinator_id
        found[admin._manager.run(find, made.group, GROUP)]["group"] += 1
        for name in members:
            found[admin._manager.run(find, f"{made.group}-{name}", TRANSACTION)]["transactions"] += 1
    return found


def test_each_broker_in_turn_stopped_killed_and_restarted(cluster, new_scene, say):
    hit = {"stopped": Counter(), "killed": Counter()}
    with new_scene(cluster.bootstrap, replication=3) as made, made.streaming() as feeding:
        daemons = [made.start("a"), made.start("b")]
        ready(daemons)
        for how, end in (("stopped", "stop"), ("killed", "kill")):
            for broker in cluster.brokers:
                duty = eventually(lambda b=broker: _charged(made, b.node_id), f"{broker.node_id} leads partitions", 120)
                hit[how] += duty
                getattr(broker, end)()
                made.await_progress(feeding)
                broker.start()
                made.await_progress(feeding)
        assert all(daemon.process.poll() is None for daemon in daemons), "a daemon gave up while brokers were there"
        finish(made, feeding, "brokers in turn", say, f"hit={ {how: dict(duty) for how, duty in hit.items()} }")
    for duty in hit.values():
        assert duty["leads"] >= len(cluster.brokers)
        assert duty["transactions"] >= 1
        assert duty["group"] >= 1


def _charged(made: Scene, node_id: int) -> Counter[str] | None:
    """A broker's duties, once it leads some partitions."""
    duty = duties(made, "ab")[node_id]
    return duty if duty["leads"] else None


def test_all_brokers_away_for_a_minute(cluster, new_scene, say):
    with new_scene(cluster.bootstrap, replication=3) as made, made.streaming() as feeding:
        kept = [Kept(made, name) for name in "ab"]
        ready([each.daemon for each in kept])
        made.await_progress(feeding)
        for broker in cluster.brokers:
            broker.kill()
        after(DARK_SECONDS)
        for broker in cluster.brokers:
            broker.start(wait=False)
        for broker in cluster.brokers:
            broker.await_started()
        made.await_progress(feeding)
        restarts = sum(each.restarts for each in kept)
        finish(made, feeding, f"all brokers away for {DARK_SECONDS} s", say, f"restarts={restarts}")
