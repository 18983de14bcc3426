"""Restoring streams from a changelog, beside its client library merely reading the same records.

    python -m tests.benchmarks.restore

Per client, both read the same topic on one real broker, read_committed and with the same options. The reader gets all
of its partitions at once and throws the records away; the daemon's own restore takes them one by one, in the slices
that its loop gives it, and ends with every stream in the engine. Rounds are interleaved, figures are medians.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import cast

import confluent_kafka
import numpy as np
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from streamer.adapters import librdkafka
from streamer.adapters.kafka_python import KafkaPythonLogReader
from streamer.adapters.kafka_python.options import quiet_library, reader_options
from streamer.adapters.kafka_python.reader import MAX_RECORDS
from streamer.adapters.librdkafka.options import reader_options as librdkafka_options
from streamer.adapters.onnx_session import OnnxModel
from streamer.checkpoint import position_of
from streamer.core.events import Partition
from streamer.core.ledger import Ledger
from streamer.core.snapshot import SnapshotFormat, Snapshots
from streamer.delivery import KafkaClient, LogReader, Position
from streamer.restore import Restore, RestorePolicy
from streamer.restores import SLICE_SECONDS
from streamer.settings import KafkaSettings
from streamer.tasks import Phase, Task, changelog_of
from tests import models
from tests.drive import new_engine
from tests.integration.broker import Cluster
from tests.integration.launcher import find_launcher
from tests.integration.records import create_topic

STREAMS, PARTITIONS, REPETITIONS = 100_000, 6, 5
HIDDEN = 370  # 4 bytes each: with its frame a snapshot of about 1.6 KB
IN_ONE_TRANSACTION = 2_000
GROUP = "group"


class Committed:
    """As much of a client as a restore needs: every partition is committed where its snapshots say, at offset 1."""

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Position]:
        return {partition: position_of(1, 1) for partition in partitions}

    def resume(self, partition: Partition, offset: int) -> None:
        """Nothing is to be delivered."""


def snapshots(format_: SnapshotFormat, streams: int) -> list[bytes]:
    """States as a network at work has them: random numbers, which no compression makes smaller."""
    ones = np.ones(streams, np.int64)
    hidden = np.random.default_rng(3).normal(0, 1, (streams, HIDDEN)).astype(np.float32)
    return format_.encode(Snapshots(28_333_334 * ones, 1_000 * ones, ones, np.zeros((streams, 0), np.int64), [hidden]))


def fill(bootstrap: str, topic: str, format_: SnapshotFormat) -> None:
    """The changelog, in transactions as the daemon writes them."""
    values = snapshots(format_, STREAMS)
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "transactional.id": "benchmark"})
    producer.init_transactions()
    for at in range(0, STREAMS, IN_ONE_TRANSACTION):
        producer.begin_transaction()
        for i in range(at, at + IN_ONE_TRANSACTION):
            producer.produce(topic, values[i], b"meter-%06d" % i, partition=i % PARTITIONS)
        producer.commit_transaction()


def kafka_python_reads(kafka: KafkaSettings, topic: str) -> float:
    """Seconds from the first poll until every record has come."""
    with closing(KafkaConsumer(**reader_options(kafka, "read_committed"))) as consumer:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        begin, left = time.perf_counter(), STREAMS
        while left:
            left -= sum(map(len, consumer.poll(timeout_ms=50, max_records=MAX_RECORDS).values()))
        return time.perf_counter() - begin


def librdkafka_reads(kafka: KafkaSettings, topic: str) -> float:
    """The same; the library begins to read when it is told of its partitions."""
    options = librdkafka_options(kafka, "read_committed") | {"enable.partition.eof": False}
    with closing(confluent_kafka.Consumer(options)) as consumer:
        consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, 0), timeout=10)  # connected
        begin, left = time.perf_counter(), STREAMS
        consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        while left:
            left -= len(consumer.consume(MAX_RECORDS, 0) or consumer.consume(1, 0.05))
        return time.perf_counter() - begin


def restore(reader: LogReader, source: str, model: OnnxModel, format_: SnapshotFormat) -> float:
    """Seconds from the first slice until the last partition runs."""
    engine = new_engine(model, max_streams=STREAMS)
    client = cast(KafkaClient, Committed())
    with closing(reader):
        reader.end(Partition(source, 0))
        reader.seek(changelog_of(GROUP, Partition(source, 0)), 0)  # both consumers are connected, as the other's is
        begin = time.perf_counter()
        for number in range(PARTITIONS):
            task = Task(Partition(source, number), Ledger(engine.arena))
            one = Restore(task, RestorePolicy(GROUP), client, reader, engine, format_)
            while task.phase is not Phase.RUNNING:
                one.slice(SLICE_SECONDS, time.monotonic())
        seconds = time.perf_counter() - begin
    assert len(engine.arena) == STREAMS
    return seconds


def compare(cluster: Cluster, model: OnnxModel, format_: SnapshotFormat) -> dict[str, list[float]]:
    """Seconds of each way, every repetition."""
    source = create_topic(cluster.bootstrap, "events", PARTITIONS)
    topic = create_changelog(cluster.bootstrap, source)
    with closing(KafkaProducer(bootstrap_servers=cluster.bootstrap)) as producer:
        for number in range(PARTITIONS):
            producer.send(source, b"{}", partition=number).get(30)
    fill(cluster.bootstrap, topic, format_)
    kafka = KafkaSettings(bootstrap_servers=cluster.bootstrap, group_id=GROUP)
    runs: dict[str, Callable[[], float]] = {
        "librdkafka reads": lambda: librdkafka_reads(kafka, topic),
        "restored with it": lambda: restore(librdkafka.LibrdkafkaLogReader(kafka), source, model, format_),
        "kafka-python reads": lambda: kafka_python_reads(kafka, topic),
        "restored with it ": lambda: restore(KafkaPythonLogReader(kafka), source, model, format_),
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPETITIONS):
        for name, run in runs.items():
            found[name].append(run())
    return found


def create_changelog(bootstrap: str, source: str) -> str:
    """The changelog of a topic, by the name the daemon expects."""
    name = changelog_of(GROUP, Partition(source, 0)).topic
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        topic = {"num_partitions": PARTITIONS, "replication_factor": 1, "configs": {"cleanup.policy": "compact"}}
        admin.create_topics({name: topic}, wait_for_metadata=True)
    return name


def report(found: Mapping[str, list[float]], bytes_each: int) -> None:
    print(f"{STREAMS:,} streams of {bytes_each} bytes, {PARTITIONS} partitions, medians of {REPETITIONS}")
    print(f"{'':20s} {'streams/s':>10s} {'MB/s':>7s} {'seconds':>8s}   min … max")
    for name, seconds in found.items():
        median = statistics.median(seconds)
        rate, megabytes = STREAMS / median, STREAMS * bytes_each / median / 1e6
        print(f"{name:20s} {rate:10,.0f} {megabytes:7.1f} {median:8.2f}   {min(seconds):.2f} … {max(seconds):.2f}")
    fast_reads, fast, reads, restores = (statistics.median(seconds) for seconds in found.values())
    print(f"restore / mere reading: librdkafka {fast_reads / fast:.2f} (at least 0.3, aim 0.5)", end="")
    print(f", kafka-python {reads / restores:.2f} (at least 0.5)")


def main() -> None:
    quiet_library()
    cluster = Cluster(find_launcher())
    try:
        cluster.start()
        with tempfile.TemporaryDirectory() as folder:
            model = OnnxModel(models.save(models.gru(hidden=HIDDEN), Path(folder) / "gru.onnx"))
            format_ = SnapshotFormat(model.fingerprint, model.signature.states, 0)
            found = compare(cluster, model, format_)
        report(found, format_.bytes_per_snapshot)
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
