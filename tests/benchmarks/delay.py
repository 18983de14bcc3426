"""From an event's append to the visibility of its forecast, at a steady rate.

    python -m tests.benchmarks.delay [STREAMS [WARM_SECONDS [REPETITIONS]]]

1,500 events a second of 10,000 streams in 4 partitions; GRU-64, 24 leads × 3 levels; the defaults: exactly once, a
commit every 100 ms. All streams are begun beforehand, by an event each. Of many streams nearly all await their snapshot
after some minutes; then what the daemon does about them shows in the delay. The clock runs from just before an event is
handed to a producer, which waits 1 ms for more, until a `read_committed` consumer has its forecast. The daemon has a
core of its own; the broker shares the other with both.
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
from confluent_kafka import TopicPartition

from tests import models
from tests.benchmarks.many_streams import BROKER_CPU, DAEMON_CPU, pin
from tests.integration.broker import Cluster
from tests.integration.daemon import running
from tests.integration.launcher import find_launcher
from tests.integration.records import create_topic
from tests.integration.waiting import eventually

RATE, PARTITIONS = 1_500, 4
SECONDS = 20.0
PATIENCE_SECONDS = 10.0  # for the last forecasts


def begin_all(bootstrap: str, topic: str, streams: int) -> None:
    """Append an event of each stream, of a moment ago."""
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap})
    for stream in range(streams):
        event = {"stream": f"meter-{stream}", "ts": int(time.time() * 1000) - 1000, "value": 50.0}
        producer.produce(topic, json.dumps(event), f"meter-{stream}", stream % PARTITIONS)
        producer.poll(0)
        if not stream % 50_000:
            producer.flush()
    producer.flush()


def feed(bootstrap: str, topic: str, streams: int, seconds: float) -> int:
    """Append events at the rate, each with the time of that moment; how many."""
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "linger.ms": 1})
    chance, begin, sent = random.Random(1), time.monotonic(), 0
    order = chance.sample(range(streams), streams)  # again and again: no stream has two events in one millisecond
    while (passed := time.monotonic() - begin) < seconds:
        while sent < passed * RATE:
            stream = order[sent % streams]
            event = {"stream": f"meter-{stream}", "ts": int(time.time() * 1000), "value": chance.uniform(20, 80)}
            producer.produce(topic, json.dumps(event), f"meter-{stream}", stream % PARTITIONS)
            sent += 1
        producer.poll(0)
        time.sleep(0.002)
    producer.flush()
    return sent


def ends(bootstrap: str, topic: str) -> list[TopicPartition]:
    """Where the topic's partitions end."""
    parts = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    with closing(confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "delay"})) as consumer:
        for part in parts:
            _, part.offset = consumer.get_watermark_offsets(part)
    return parts


def read(bootstrap: str, begin: list[TopicPartition], stop: Event, seen: list[tuple[int, float]]) -> None:
    """Note each forecast's origin and delay, in milliseconds."""
    options = {"bootstrap.servers": bootstrap, "group.id": "delay", "isolation.level": "read_committed"}
    with closing(confluent_kafka.Consumer(options | {"fetch.wait.max.ms": 5})) as consumer:
        consumer.assign(begin)
        while not stop.is_set():
            messages = consumer.consume(500, 0.05)
            now = time.time() * 1000
            origins = [json.loads(m.value())["origin"] for m in messages if m.error() is None]
            seen += [(origin, now - origin) for origin in origins]


def delays(cluster: Cluster, folder: Path, model: Path, streams: int, warm_seconds: float) -> np.ndarray:
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
    with running(folder, settings, forecasts) as streamer:
        pin(streamer.process.pid, DAEMON_CPU)
        streamer.await_ready()
        begin_all(cluster.bootstrap, events, streams)
        eventually(lambda: streamer.metric("streamer_forecasts_published_total") == streams, "all begun", 600)
        reader = Thread(target=read, args=(cluster.bootstrap, ends(cluster.bootstrap, forecasts), stop, seen))
        reader.start()
        try:
            begin = time.time() * 1000
            sent = feed(cluster.bootstrap, events, streams, warm_seconds + SECONDS)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len(seen) < sent and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            stop.set()
            reader.join()
    if len(seen) != sent:
        sys.exit(f"{sent} events were appended, {len(seen)} forecasts were read")
    return np.array([delay for origin, delay in seen if origin >= begin + warm_seconds * 1000])


def main() -> None:
    given = sys.argv[1:] + ["10000", "10", "5"][len(sys.argv) - 1 :]
    streams, warm_seconds, repetitions = int(given[0]), float(given[1]), int(given[2])
    cluster = Cluster(find_launcher())
    found = []
    try:
        cluster.start()
        pin(cluster.brokers[0].process.pid, BROKER_CPU)
        with tempfile.TemporaryDirectory() as folder:
            model = models.save(models.gru(hidden=64, horizon=24, step_ms=None), Path(folder) / "gru-64.onnx")
            for _ in range(repetitions):
                waits = delays(cluster, Path(folder), model, streams, warm_seconds)
                found.append(np.percentile(waits, [50, 99, 100]))
                print("ms: p50 {:.0f}, p99 {:.0f}, longest {:.0f}".format(*found[-1]), flush=True)
    finally:
        cluster.close()
    median, late, longest = np.median(found, axis=0)
    print(f"medians of {repetitions} runs at {RATE:,} events/s of {streams:,} streams: ", end="")
    print(f"p50 {median:.0f} ms, p99 {late:.0f} ms (at most 250, aim 150), longest {longest:.0f} ms")


if __name__ == "__main__":
    main()
