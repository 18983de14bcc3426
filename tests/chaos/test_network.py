"""A network that is slow, narrow, silent or torn between the daemon and its broker, in the middle of commits too."""

import random
import time
from collections.abc import Callable

import pytest

from tests.chaos.proxy import Proxy
from tests.chaos.scene import scene
from tests.chaos.test_members import finish, progressed, ready, streaming
from tests.chaos.workload import Workload
from tests.integration.waiting import eventually

pytestmark = pytest.mark.chaos


@pytest.fixture
def proxied(make_cluster):
    """A broker that tells its clients to come through a proxy; the test itself goes there too."""
    cluster = make_cluster()
    (broker,) = cluster.brokers
    proxy = Proxy(broker.address)
    broker.advertised = proxy.address
    cluster.start()
    yield cluster, proxy
    proxy.close()


def test_a_slow_narrow_silent_and_torn_network(proxied, tmp_path, capsys):
    cluster, proxy = proxied
    chance = random.Random(6)
    with scene(cluster.bootstrap, tmp_path, Workload()) as made:
        with streaming(made) as fed:
            eventually(fed.is_set, "the workload is in the topic", 300)
        daemon = made.start("a")
        ready([daemon])
        committed = 0
        for fault in ("delay", "throttle", "reset", "silent") * 3:
            committed = made.done()
            if fault == "delay":
                proxy.delay_seconds = 0.05  # for each 64 KB: 1.3 MB/s at most, too
            elif fault == "throttle":
                proxy.bytes_per_second = 2_000_000
            elif fault == "silent":
                proxy.silent = True
                silence = chance.uniform(1, 12)  # beyond it, transactions time out
                eventually(_after(silence), f"{silence:.1f} s of silence", 60)
                proxy.calm()
            else:
                for _ in range(5):
                    proxy.reset_all()
                    eventually(_after(chance.uniform(0.05, 0.5)), "a moment between resets", 60)
            if committed < made.workload.events:
                progressed(made, 200)
            proxy.calm()
            if daemon.process.poll() is not None:  # one that gave up is started again, as Kubernetes would
                daemon = made.start("a")
        finish(made, "network", capsys)


def _after(seconds: float) -> Callable[[], bool]:
    """A condition that becomes true when the time is over."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end
