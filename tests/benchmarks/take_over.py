"""Seconds from kill -9 of one of two daemons until the other publishes for its partitions, and what they are made of.

    python -m tests.benchmarks.take_over

100,000 streams in all, the group's default settings, no static membership. The victim is stopped until it is caught
within a transaction and killed then: the worst moment. Parts, in seconds after the kill:

    transaction ended     the victim's pending one, aborted by its time limit: only then may its partitions be restored
    partitions assigned   the session timeout is over, and the group has rebalanced
    restored              the heir serves all partitions
    first forecast        a read_committed reader sees one from a partition of the victim
"""

import itertools
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streamer.adapters.kafka_python.options import quiet_library
from tests import models
from tests.chaos.scene import Scene, scene
from tests.chaos.workload import STEP_MS, Workload
from tests.integration.broker import Cluster
from tests.integration.daemon import Streamer
from tests.integration.launcher import find_launcher
from tests.integration.records import Record, end_offsets
from tests.integration.waiting import eventually

STREAMS, HIDDEN = 100_000, 370  # snapshots of about 1.6 KB
EVENTS_PER_SECOND = 200
DEFAULTS = {"kafka.options": {}, "state.snapshot_interval_seconds": 10, "delivery.commit_interval_seconds": 0.1}
TIMEOUT_SECONDS = 180


@contextmanager
def trickle(made: Scene, records: Sequence[Record]) -> Iterator[None]:
    """Events at a steady rate, in the background."""
    over = threading.Event()

    def send() -> None:
        with closing(KafkaProducer(bootstrap_servers=made.bootstrap)) as producer:
            for r in itertools.cycle(records):
                if over.wait(1 / EVENTS_PER_SECOND):
                    return
                producer.send(made.input, r.value, r.key, partition=r.partition)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def published_by(made: Scene, daemon: Streamer) -> list[TopicPartition]:
    """Output partitions of a daemon: it shows the lag of those that are assigned to it."""
    page = daemon.get("/metrics") or ""
    lag = [line for line in page.splitlines() if line.startswith("streamer_consumer_lag_records{")]
    numbers = [n for n in range(made.workload.partitions) if any(f'partition="{n}"' in line for line in lag)]
    return [TopicPartition(made.output, number) for number in numbers]


class Watch:
    """The victim's output partitions, as readers see them."""

    def __init__(self, bootstrap: str, partitions: Sequence[TopicPartition]) -> None:
        self._bootstrap, self._partitions = bootstrap, list(partitions)
        options = {"isolation_level": "read_committed", "enable_auto_commit": False, "allow_auto_create_topics": False}
        self._stable = KafkaConsumer(bootstrap_servers=bootstrap, **options)
        self._reader = KafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=20, **options)
        self._reader.assign(self._partitions)

    def pending(self) -> bool:
        """Whether a transaction is open in any of them."""
        ends = end_offsets(self._bootstrap, self._partitions)
        return any(stable < ends[p] for p, stable in self._stable.end_offsets(self._partitions).items())

    def begin(self) -> None:
        """From here on, forecasts are new."""
        for partition, end in end_offsets(self._bootstrap, self._partitions).items():
            self._reader.seek(partition, end)

    def forecast(self) -> bool:
        return bool(self._reader.poll(timeout_ms=20))

    def close(self) -> None:
        for consumer in (self._stable, self._reader):
            consumer.close(autocommit=False)


def kill_within_a_transaction(victim: Streamer, watch: Watch) -> float:
    """End the victim; the time at which it was."""

    def caught() -> bool:
        victim.process.send_signal(signal.SIGSTOP)
        if watch.pending():
            return True
        victim.process.send_signal(signal.SIGCONT)
        time.sleep(0.037)  # no divisor of the commit interval
        return False

    eventually(caught, "the victim is within a transaction")
    watch.begin()
    killed = time.monotonic()
    victim.kill()
    return killed


def measure(made: Scene, heir: Streamer, watch: Watch, killed: float) -> dict[str, float]:
    """Seconds after the kill of each part."""
    whole = made.workload.partitions
    parts = {
        "transaction ended": lambda: not watch.pending(),
        "partitions assigned": lambda: heir.metric("streamer_assigned_partitions") == whole,
        "restored": lambda: "partitions assigned" in found and bool(heir.get("/readyz")),
        "first forecast": watch.forecast,
    }
    found: dict[str, float] = {}

    def look() -> bool:
        for name in [name for name in parts if name not in found]:
            if parts[name]():
                found[name] = time.monotonic() - killed
        return len(found) == len(parts)

    eventually(look, "the heir publishes for the victim's partitions", TIMEOUT_SECONDS)
    return found


def take_over(bootstrap: str, folder: Path) -> dict[str, float]:
    workload = Workload(events=2 * STREAMS, streams=STREAMS)
    with scene(bootstrap, folder, workload, more=DEFAULTS) as made:
        models.save(models.gru(hidden=HIDDEN, step_ms=STEP_MS, horizon=4), made.model)
        records = workload.records()
        made.feed(records[:STREAMS])
        victim, heir = made.start("a", static=False), made.start("b", static=False)
        made.await_done()
        for daemon in (victim, heir):
            daemon.await_ready()
        mine = published_by(made, victim)
        assert 0 < len(mine) < workload.partitions, mine
        with closing(Watch(bootstrap, mine)) as watch, trickle(made, records[STREAMS:]):
            killed = kill_within_a_transaction(victim, watch)
            return measure(made, heir, watch, killed)


def main() -> None:
    quiet_library()
    cluster = Cluster(find_launcher())
    try:
        cluster.start()
        with tempfile.TemporaryDirectory() as folder:
            found = take_over(cluster.bootstrap, Path(folder))
    finally:
        cluster.close()
    print(f"{STREAMS:,} streams, two daemons, one killed within a transaction; seconds after the kill:")
    for name, seconds in sorted(found.items(), key=lambda part: part[1]):
        print(f"{name:20s} {seconds:6.1f}")


if __name__ == "__main__":
    main()
