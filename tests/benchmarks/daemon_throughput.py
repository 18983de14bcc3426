"""The whole daemon's throughput with either client, beside librdkafka doing nothing but pass records on.

    python -m tests.benchmarks.daemon_throughput [EVENTS [REPETITIONS]]

Everything reads the same topic, 10,000 streams in 4 partitions, with the defaults: exactly once, lz4, a commit every
100 ms; 24 leads × 3 levels. The model is a bare GRU-64, as the peers' of docs/benchmarks.md, and once the trainer's
standard one. The broker has one core and what is measured the other. Rounds are interleaved, figures are medians; all
rates are taken from the first tenth of the events on, the daemon's until the last look before its end.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition

from tests import models
from tests.benchmarks.many_streams import (
    BROKER_CPU,
    DAEMON_CPU,
    SETTINGS,
    SHORT_LIVED,
    STEP_MS,
    Case,
    export,
    pin,
    preload,
    samples,
)
from tests.integration.broker import Cluster
from tests.integration.daemon import Streamer
from tests.integration.launcher import find_launcher
from tests.integration.records import create_topic

STREAMS, PARTITIONS = 10_000, 4
LOOKED_AT = 10_000  # forecasts, which the raw client sends
RAW_LIMIT_SECONDS = 1_800.0  # it takes some seconds for a million events
SKIPPED = 0.1  # of the events, until caches and batches have their size


class Cost(NamedTuple):
    """Events per second, and CPU seconds per million events."""

    rate: float
    cpu: float


class Bench:
    """A broker with a topic of events, and what is measured on it."""

    def __init__(self, cluster: Cluster, folder: Path, case: Case) -> None:
        self.cluster, self.folder, self.case = cluster, folder, case
        self.bare = models.save(models.gru(hidden=64, horizon=24, step_ms=STEP_MS), folder / "gru-64.onnx")
        self.standard = export(folder / "standard-gru-64.onnx")
        self.events = create_topic(cluster.bootstrap, "events", case.partitions)
        preload(cluster.bootstrap, self.events, case, range(case.ticks))
        self.values = folder / "values"  # what the daemon published, a line each

    def forecasts_topic(self) -> str:
        return create_topic(self.cluster.bootstrap, "forecasts", self.case.partitions, settings=SHORT_LIVED)

    def daemon(self, client: str, model: Path, compression: str = "lz4") -> Cost:
        """A new group's run over all events."""
        output = self.forecasts_topic()
        settings = {
            "model.path": str(model),
            "kafka.client": client,
            "kafka.bootstrap_servers": self.cluster.bootstrap,
            "kafka.group_id": output,
            "input.topics": [self.events],
            "output.topic": output,
            "output.compression": compression,
        }
        streamer = Streamer(self.folder, settings, output)
        try:
            pin(streamer.process.pid, DAEMON_CPU)
            found = samples(streamer, self.case.events)
            assert streamer.stop() == 0, streamer.log
        finally:
            streamer.kill()
        if not self.values.exists():
            self.values.write_bytes(b"\n".join(last_values(self.cluster.bootstrap, output)))
        first = next(s for s in found if s.done >= SKIPPED * self.case.events)
        last = [s for s in found if s.done < self.case.events][-1]
        events = last.done - first.done
        return Cost(events / (last.seconds - first.seconds), (last.cpu - first.cpu) / events * 1e6)

    def raw(self, *options: str) -> Cost:
        """`raw_client`, with the daemon's forecasts."""
        command = ["taskset", "-c", str(DAEMON_CPU), sys.executable, "-m", "tests.benchmarks.raw_client"]
        command += ["--bootstrap", self.cluster.bootstrap, "--input", self.events, "--output", self.forecasts_topic()]
        command += ["--values", str(self.values), "--skip", str(int(SKIPPED * self.case.events)), *options]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=RAW_LIMIT_SECONDS).stdout
        words = said.replace(",", "").split()
        return Cost(float(words[words.index("records/s") - 1]), float(words[words.index("CPU") - 1]))


def last_values(bootstrap: str, topic: str) -> list[bytes]:
    """The last forecasts of a partition, or all that there are."""
    part = TopicPartition(topic, 0)
    found: list[bytes] = []
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)) as consumer:
        consumer.assign([part])
        end = consumer.end_offsets([part])[part]
        consumer.seek(part, max(0, end - LOOKED_AT))
        while len(found) < LOOKED_AT // 2 and consumer.position(part) < end:  # offsets have gaps
            found += [record.value for record in consumer.poll(10_000).get(part, [])]
    return found


def main() -> None:
    events, repetitions = (int(given) for given in [*sys.argv[1:], *["1000000", "5"][len(sys.argv) - 1 :]])
    cluster = Cluster(find_launcher(), settings=SETTINGS)
    found: dict[str, list[Cost]] = {}
    try:
        cluster.start()
        pin(cluster.brokers[0].process.pid, BROKER_CPU)
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(cluster, Path(folder), Case(PARTITIONS, STREAMS, events))
            runs: dict[str, Callable[[], Cost]] = {
                "daemon, confluent": lambda: bench.daemon("confluent", bench.bare),
                "librdkafka alone": bench.raw,
                "librdkafka alone, in rounds": lambda: bench.raw("--rounds"),
                "daemon, the trainer's model": lambda: bench.daemon("confluent", bench.standard),
                "daemon, uncompressed": lambda: bench.daemon("confluent", bench.bare, "none"),
                "daemon, kafka-python": lambda: bench.daemon("kafka-python", bench.bare),
            }
            for _ in range(repetitions):
                for name, run in runs.items():
                    found.setdefault(name, []).append(run())
            size = statistics.mean(map(len, bench.values.read_bytes().splitlines()))
    finally:
        cluster.close()
    print(f"{events} events of {STREAMS} streams, forecasts of {size:.0f} bytes, {repetitions} repetitions")
    print(f"{'':34s} {'events/s':>9s}   {'min … max':22s} CPU-s per million events")
    rate = {name: statistics.median(cost.rate for cost in costs) for name, costs in found.items()}
    for name, costs in found.items():
        rates, cpu = [cost.rate for cost in costs], statistics.median(cost.cpu for cost in costs)
        print(f"{name:34s} {rate[name]:9,.0f}   {f'{min(rates):,.0f} … {max(rates):,.0f}':22s} {cpu:6.2f}")
    alone = found["librdkafka alone"]
    for name in ("daemon, confluent", "daemon, the trainer's model"):
        pairs = [daemon.rate / raw.rate for daemon, raw in zip(found[name], alone, strict=True)]
        said = f"{name} / librdkafka alone: {rate[name] / rate['librdkafka alone']:.2f}"
        print(f"{said} (pairs {min(pairs):.2f} … {max(pairs):.2f})")
    print("the first of these: at least 0.6, aim 0.8")


if __name__ == "__main__":
    main()
