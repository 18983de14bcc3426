"""Three brokers with three copies of everything: each stopped, killed and restarted while events stream in."""

import time

import pytest

from tests.chaos.scene import scene
from tests.chaos.test_members import finish, progressed, ready, streaming
from tests.chaos.workload import Workload

pytestmark = pytest.mark.chaos

DARK_SECONDS = 60


@pytest.fixture
def cluster(make_cluster):
    made = make_cluster(brokers=3)
    made.start()
    return made


def test_each_broker_in_turn_stopped_killed_and_restarted(cluster, tmp_path, capsys):
    with scene(cluster.bootstrap, tmp_path, Workload(), replication=3) as made, streaming(made):
        ready([made.start("a"), made.start("b")])
        for broker in cluster.brokers:  # leaders, group and transaction coordinators are among them
            broker.stop()
            progressed(made, 1_000)
            broker.start()
            progressed(made, 1_000)
            broker.kill()
            progressed(made, 1_000)
            broker.start()
        finish(made, "brokers in turn", capsys)


def test_all_brokers_away_for_a_minute(cluster, tmp_path, capsys):
    with scene(cluster.bootstrap, tmp_path, Workload(), replication=3) as made:
        made.feed()
        daemons = [made.start("a"), made.start("b")]
        ready(daemons)
        progressed(made)
        for broker in cluster.brokers:
            broker.kill()
        time.sleep(DARK_SECONDS)  # the length of the outage is what is tested
        for broker in cluster.brokers:
            broker.start(wait=False)
        for broker in cluster.brokers:
            broker.await_started()
        for i, daemon in enumerate(daemons):  # one that gave up is started again, as Kubernetes would
            if daemon.process.poll() is not None:
                made.start("ab"[i])
        finish(made, "all brokers away", capsys)
