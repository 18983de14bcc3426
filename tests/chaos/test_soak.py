"""Ten minutes at a steady rate: one daemon lives through them, one beside it is killed at random again and again.

What the long-lived one takes of the machine is sampled from /proc. After a warm-up its samples are cut into thirds,
and the last third's median must not lie above the first's by more than FLAT says.
"""

import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from kafka import KafkaProducer

from tests.chaos.members import ready
from tests.chaos.scene import Scene
from tests.chaos.workload import Workload
from tests.integration.daemon import Streamer

pytestmark = pytest.mark.chaos

SOAK_SECONDS = 600
EVENTS_PER_SECOND = 200
WARM_UP_SECONDS = SOAK_SECONDS / 5  # caches, pools and every stream's row are there by then
LIFE_SECONDS = (5.0, 30.0)  # of the victim, from its start
ABSENCE_SECONDS = (0.0, 6.0)  # beyond the session timeout of 3 s its partitions move to the other, and back


class Footprint(NamedTuple):
    """What a process takes: resident memory, open file descriptors, threads."""

    memory_mb: float
    files: float
    threads: float


FLAT = Footprint(memory_mb=10, files=4, threads=1)  # growth between thirds that is noise: some 5 % of the memory


def footprint(pid: int) -> Footprint:
    """A process as /proc shows it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Footprint(int(status["VmRSS"].split()[0]) / 1024, files, int(status["Threads"]))


def medians(samples: Sequence[Footprint]) -> Footprint:
    return Footprint(*map(statistics.median, zip(*samples, strict=True)))


def thirds(samples: Sequence[Footprint]) -> list[Footprint]:
    share = len(samples) // 3
    return [medians(samples[i * share : (i + 1) * share]) for i in range(3)]


@contextmanager
def steady(made: Scene, begun: float) -> Iterator[threading.Thread]:
    """The workload sent in the background, each event at its time."""
    records = made.workload.records()

    def send() -> None:
        with closing(KafkaProducer(bootstrap_servers=made.eyes)) as producer:
            for i, r in enumerate(records):
                if (early := begun + i / EVENTS_PER_SECOND - time.monotonic()) > 0:
                    time.sleep(early)
                producer.send(made.input, r.value, r.key, partition=r.partition)
            producer.flush(60)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


class Victim:
    """A daemon that dies at random, stays away for a while and comes back under its own name."""

    def __init__(self, start: Callable[[], Streamer], chance: random.Random) -> None:
        self._start, self._chance = start, chance
        self._next = 0.0
        self._daemon: Streamer | None = None
        self.kills = 0
        self.largest = Footprint(0, 0, 0)  # of all its lives

    def look(self, now: float) -> None:
        """Do what is due; called about once a second."""
        if self._daemon is not None:
            assert self._daemon.process.poll() is None, self._daemon.log
            self.largest = Footprint(*map(max, zip(self.largest, footprint(self._daemon.process.pid), strict=True)))
        if now < self._next:
            return
        if self._daemon is None:
            self._daemon = self._start()
            self._next = now + self._chance.uniform(*LIFE_SECONDS)
        else:
            self._daemon.kill()
            self._daemon = None
            self.kills += 1
            self._next = now + self._chance.uniform(*ABSENCE_SECONDS)


def test_a_soak_leaves_memory_files_and_threads_flat(new_scene, say):
    workload = Workload(SOAK_SECONDS * EVENTS_PER_SECOND)
    with new_scene(workload=workload) as made:
        survivor = made.start("survivor")
        ready([survivor])
        victim = Victim(lambda: made.start("victim"), random.Random(10))
        begun = time.monotonic()
        samples: list[Footprint] = []
        with steady(made, begun) as feeding:
            while feeding.is_alive():
                now = time.monotonic()
                assert survivor.process.poll() is None, survivor.log
                victim.look(now)
                if now - begun > WARM_UP_SECONDS:
                    samples.append(footprint(survivor.process.pid))
                time.sleep(1)  # the rate of the samples
        made.await_done()
        verdict = made.verdict()
        found = thirds(samples)
        say("soak", f"{SOAK_SECONDS} s at {EVENTS_PER_SECOND} events/s, kills={victim.kills} {verdict}")
        for part, median in zip(("first", "second", "last"), found, strict=True):
            say(f"soak, {part} third", median)
        say("soak, largest of the killed one", victim.largest)
        assert verdict.is_clean, verdict
        assert victim.kills > SOAK_SECONDS / sum(LIFE_SECONDS)
        growth = Footprint(*(last - first for first, last in zip(found[0], found[2], strict=True)))
        assert all(more <= noise for more, noise in zip(growth, FLAT, strict=True)), growth
