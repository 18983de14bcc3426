"""The reader of logs outside the group, against a real broker."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import TopicPartition

from streamer.adapters.kafka_python import KafkaPythonLogReader
from streamer.adapters.librdkafka import LibrdkafkaLogReader
from streamer.core.events import Partition
from streamer.delivery import LogReader
from streamer.settings import KafkaSettings
from tests.integration.records import Record, create_topic, end_offsets, produce, transaction
from tests.integration.waiting import eventually


@pytest.fixture
def log(bootstrap: str, kafka_client: str) -> Iterator[LogReader]:
    """A log reader."""
    kafka = KafkaSettings(bootstrap_servers=bootstrap, client=kafka_client)
    kind = KafkaPythonLogReader if kafka_client == "kafka-python" else LibrdkafkaLogReader
    with closing(kind(kafka)) as log:
        yield log


def test_the_log_reader_passes_aborted_records_and_markers_and_reaches_the_end(bootstrap, log):
    topic = create_topic(bootstrap, "log")
    partition = Partition(topic, 0)
    with transaction(bootstrap) as aborted:
        aborted.send(topic, b"aborted", partition=0).get(10)
        aborted.abort_transaction()
    with transaction(bootstrap) as kept:
        kept.send(topic, b"kept", b"key", [("h", b"1")], 0, 1_700_000_000_000).get(10)
        kept.commit_transaction()
    with transaction(bootstrap) as aborted:
        aborted.send(topic, b"aborted", partition=0).get(10)
        aborted.abort_transaction()
    end = end_offsets(bootstrap, [TopicPartition(topic, 0)])[TopicPartition(topic, 0)]
    assert (log.begin(partition), log.end(partition)) == (0, end) == (0, 6)
    read = read_to(log, partition, 0, end)
    assert read == [(2, 1_700_000_000_000, b"key", b"kept", [("h", b"1")])]
    assert read_to(log, partition, 3, end) == []
    assert read_to(log, partition, 0, end) == read


def test_the_end_counts_open_transactions_and_the_position_waits_for_them(bootstrap, log):
    topic = create_topic(bootstrap, "log")
    partition = Partition(topic, 0)
    produce(bootstrap, topic, [Record(b"1")])
    with transaction(bootstrap) as other:
        other.send(topic, b"2", partition=0).get(10)
        assert log.end(partition) == 2
        log.seek(partition, 0)
        eventually(lambda: log.read(0.05)[1] == 1, "what is stable")
        assert log.read(0.05) == (None, 1)
        other.commit_transaction()
    assert [value for _, _, _, value, _ in read_to(log, partition, 1, 2)] == [b"2"]


def test_the_log_reader_goes_from_one_partition_to_another(bootstrap, log):
    topic = create_topic(bootstrap, "log", partitions=2)
    produce(bootstrap, topic, [Record(b"%d" % n, partition=n % 2) for n in range(10)])
    for number in (0, 1, 0):
        read = read_to(log, Partition(topic, number), 1, 5)
        assert [value for _, _, _, value, _ in read] == [b"%d" % n for n in range(number + 2, 10, 2)]


def read_to(log: LogReader, partition: Partition, offset: int, end: int) -> list[tuple]:
    """What is read from an offset until the position has reached the end: offset, time, key, value, headers."""
    read: list[tuple] = []
    log.seek(partition, offset)

    def at_end() -> bool:
        records, position = log.read(0.05)
        if records is not None:
            assert records.partition == partition
            headers = [records.headers(index) for index in range(len(records))]
            read.extend(zip(records.offsets, records.timestamps, records.keys, records.values, headers, strict=True))
        return position >= end

    eventually(at_end, f"the position reaches {end}")
    return read
