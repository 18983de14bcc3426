"""From an event's append to the visibility of its forecast, at a steady rate: `python -m tests.benchmarks.delay`.

1,500 events a second of 10,000 streams in 4 partitions; GRU-64, 24 leads × 3 levels; the defaults: exactly once, a
commit every 100 ms. The clock runs from just before an event is handed to a producer, which waits 1 ms for more, until
a `read_committed` consumer has its forecast. The daemon has a core of its own; the broker shares the other with both.
"""

import json
import random
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import confluent_kafka
import numpy as np

from tests import models
from tests.benchmarks.many_streams import BROKER_CPU, DAEMON_CPU, pin
from tests.integration.broker import Cluster
from tests.integration.daemon import running
from tests.integration.launcher import find_launcher
from tests.integration.records import create_topic

RATE, STREAMS, PARTITIONS = 1_500, 10_000, 4
WARM_SECONDS, SECONDS, REPETITIONS = 10.0, 20.0, 5
PATIENCE_SECONDS = 10.0  # for the last forecasts


def feed(bootstrap: str, topic: str, seconds: float) -> int:
    """Append events at the rate, each with the time of that moment; how many."""
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "linger.ms": 1})
    chance, begin, sent = random.Random(1), time.monotonic(), 0
    order = chance.sample(range(STREAMS), STREAMS)  # again and again: no stream has two events in one millisecond
    while (passed := time.monotonic() - begin) < seconds:
        while sent < passed * RATE:
            stream = order[sent % STREAMS]
            event = {"stream": f"meter-{stream}", "ts": int(time.time() * 1000), "value": chance.uniform(20, 80)}
            producer.produce(topic, json.dumps(event), f"meter-{stream}", stream % PARTITIONS)
            sent += 1
        producer.poll(0)
        time.sleep(0.002)
    producer.flush()
    return sent


def read(bootstrap: str, topic: str, stop: Event, seen: list[tuple[int, float]]) -> None:
    """Note each forecast's origin and delay, in milliseconds."""
    options = {"bootstrap.servers": bootstrap, "group.id": "delay", "isolation.level": "read_committed"}
    with closing(confluent_kafka.Consumer(options | {"fetch.wait.max.ms": 5})) as consumer:
        consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        while not stop.is_set():
            messages = consumer.consume(500, 0.05)
            now = time.time() * 1000
            origins = [json.loads(m.value())["origin"] for m in messages if m.error() is None]
            seen += [(origin, now - origin) for origin in origins]


def delays(cluster: Cluster, folder: Path, model: Path) -> np.ndarray:
    """Milliseconds of every event after the warm-up; every event has one."""
    events, forecasts = (create_topic(cluster.bootstrap, name, PARTITIONS) for name in ("events", "forecasts"))
    settings = {
        "model.path": str(model),
        "kafka.client": "confluent",
        "kafka.bootstrap_servers": cluster.bootstrap,
        "kafka.group_id": forecasts,
        "input.topics": [events],
        "output.topic": forecasts,
    }
    seen: list[tuple[int, float]] = []
    stop = Event()
    reader = Thread(target=read, args=(cluster.bootstrap, forecasts, stop, seen))
    with running(folder, settings, forecasts) as streamer:
        pin(streamer.process.pid, DAEMON_CPU)
        streamer.await_ready()
        reader.start()
        try:
            begin = time.time() * 1000
            sent = feed(cluster.bootstrap, events, WARM_SECONDS + SECONDS)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len(seen) < sent and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            stop.set()
            reader.join()
    if len(seen) != sent:
        sys.exit(f"{sent} events were appended, {len(seen)} forecasts were read")
    return np.array([delay for origin, delay in seen if origin >= begin + WARM_SECONDS * 1000])


def main() -> None:
    cluster = Cluster(find_launcher())
    found = []
    try:
        cluster.start()
        pin(cluster.brokers[0].process.pid, BROKER_CPU)
        with tempfile.TemporaryDirectory() as folder:
            model = models.save(models.gru(hidden=64, horizon=24, step_ms=None), Path(folder) / "gru-64.onnx")
            for _ in range(REPETITIONS):
                found.append(np.percentile(delays(cluster, Path(folder), model), [50, 99, 100]))
                print("ms: p50 {:.0f}, p99 {:.0f}, longest {:.0f}".format(*found[-1]), flush=True)
    finally:
        cluster.close()
    median, late, longest = np.median(found, axis=0)
    print(f"medians of {REPETITIONS} runs at {RATE:,} events/s: ", end="")
    print(f"p50 {median:.0f} ms, p99 {late:.0f} ms (at most 250, aim 150), longest {longest:.0f} ms")


if __name__ == "__main__":
    main()
