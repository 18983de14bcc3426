"""A network that is slow, narrow, silent, half-open or torn between the daemon and its broker, in commits too."""

import random
from collections.abc import Callable

import pytest

from tests.chaos.members import Kept, after, finish
from tests.chaos.proxy import Proxy, Request
from tests.integration.broker import Cluster
from tests.integration.waiting import eventually

pytestmark = pytest.mark.chaos

ROUNDS = 2
TEARS = [(request, late) for request in Request if request is not Request.JOIN_GROUP for late in (False, True)]


@pytest.fixture
def proxied(make_cluster):
    """A broker that tells its clients to come through a proxy; the test itself goes another way."""
    cluster = make_cluster()
    (broker,) = cluster.brokers
    proxy = Proxy(broker.address)
    broker.advertised = proxy.address
    cluster.start()
    yield cluster, proxy
    proxy.close()


def delayed(proxy: Proxy, chance: random.Random) -> None:
    proxy.delay_seconds = 0.05  # for each 64 KB: 1.3 MB/s at most, too


def throttled(proxy: Proxy, chance: random.Random) -> None:
    proxy.bytes_per_second = 500_000


def silent(proxy: Proxy, chance: random.Random) -> None:
    proxy.silent = True
    after(chance.uniform(1, 12))  # beyond 10 s, transactions time out
    proxy.calm()


def mute(proxy: Proxy, chance: random.Random) -> None:
    proxy.mute = True
    after(chance.uniform(1, 12))
    proxy.calm()


def half_open(proxy: Proxy, chance: random.Random) -> None:
    proxy.half_open_all()


def reset(proxy: Proxy, chance: random.Random) -> None:
    for _ in range(5):
        proxy.reset_all()
        after(chance.uniform(0.05, 0.5))


FAULTS: list[Callable[[Proxy, random.Random], None]] = [delayed, throttled, silent, mute, half_open, reset]


def test_a_slow_narrow_silent_half_open_and_torn_network(proxied, new_scene, say):
    cluster, proxy = proxied
    chance = random.Random(6)
    with new_scene(cluster.bootstrap, eyes=direct(cluster)) as made, made.streaming() as feeding:
        kept = Kept(made, "a")
        for fault in FAULTS * ROUNDS:
            made.await_progress(feeding)
            fault(proxy, chance)
            made.await_progress(feeding)
            proxy.calm()
        finish(made, feeding, "network", say, f"faults={len(FAULTS) * ROUNDS} restarts={kept.restarts}")


def test_connections_torn_in_the_middle_of_transactions(proxied, new_scene, say):
    cluster, proxy = proxied
    with new_scene(cluster.bootstrap, eyes=direct(cluster)) as made, made.streaming() as feeding:
        kept = Kept(made, "a")
        for request, late in TEARS * ROUNDS:
            made.await_progress(feeding)
            sprung = proxy.trap(request, late)
            if request is Request.INIT_PRODUCER_ID:  # only a new process is sure to ask for its id
                kept.kill()
            eventually(sprung, f"{request.name} torn", 180)
        made.await_progress(feeding)
        finish(made, feeding, "torn", say, f"tears={len(TEARS) * ROUNDS} restarts={kept.restarts}")


def direct(cluster: Cluster) -> str:
    """The way around the proxy."""
    return f"127.0.0.1:{cluster.brokers[0].internal_port}"
