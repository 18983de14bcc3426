"""Topics, records and offsets for tests, through kafka-python: the second pair of eyes on what the daemon did."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import TopicAlreadyExistsError, UnknownBrokerIdError

from tests.integration.waiting import eventually

LARGEST_MESSAGE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Record:
    """One record to produce; timestamp_ms None: now."""

    value: bytes | None
    key: bytes | None = None
    partition: int = 0
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int | None = None


def create_topic(
    bootstrap: str,
    name: str = "topic",
    partitions: int = 1,
    replication: int = -1,
    settings: Mapping[str, object] | None = None,
) -> str:
    """Create a topic and return its name: the given one and a random suffix, so that tests share a broker in peace.

    replication  copies of each partition; -1: the broker's default
    settings     topic settings by their Kafka names
    """
    unique = f"{name}-{uuid.uuid4().hex[:8]}"
    configs = {setting: str(value) for setting, value in (settings or {}).items()}
    topic = {"num_partitions": partitions, "replication_factor": replication, "configs": configs}

    def created() -> bool:
        try:
            with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
                admin.create_topics({unique: topic}, wait_for_metadata=True)
        except UnknownBrokerIdError:  # brokers that have just started do not all know each other yet
            return False
        except TopicAlreadyExistsError:
            pass
        return True

    eventually(created, f"topic {unique} is there")
    return unique


def produce(bootstrap: str, topic: str, records: Iterable[Record]) -> None:
    """Append records, each to the partition it names, and return when all are stored."""
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, max_request_size=LARGEST_MESSAGE_BYTES, linger_ms=5, allow_auto_create_topics=False
    )
    with closing(producer):
        futures = [producer.send(topic, r.value, r.key, list(r.headers), r.partition, r.timestamp_ms) for r in records]
        for future in futures:
            future.get(timeout=60)


def read_committed(bootstrap: str, topic: str) -> list[ConsumerRecord]:
    """Every record a `read_committed` reader sees up to the topic's present end, by partition and offset.

    The end counts open transactions too: they are waited for, until they are committed or aborted.
    """
    reader = KafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        allow_auto_create_topics=False,
        max_partition_fetch_bytes=LARGEST_MESSAGE_BYTES,
    )
    with closing(reader):
        partitions = [TopicPartition(topic, number) for number in sorted(reader.partitions_for_topic(topic))]
        ends = end_offsets(bootstrap, partitions)
        reader.assign(partitions)
        records: list[ConsumerRecord] = []

        def at_end() -> bool:
            for batch in reader.poll(timeout_ms=100, max_records=10_000).values():
                records.extend(batch)
            return all((reader.position(p) or 0) >= ends[p] for p in partitions)

        eventually(at_end, f"{topic} read to {ends}")
    within = [r for r in records if r.offset < ends[TopicPartition(r.topic, r.partition)]]
    return sorted(within, key=lambda r: (r.partition, r.offset))


def end_offsets(bootstrap: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """The offset after the last record, of open transactions too, of each partition."""
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, allow_auto_create_topics=False)) as reader:
        return reader.end_offsets(partitions)


def begin_offsets(bootstrap: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """The first offset that is still there, of each partition."""
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, allow_auto_create_topics=False)) as reader:
        return reader.beginning_offsets(partitions)


def committed_offsets(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    """What a group has committed, by partition number; partitions without a commit are absent."""
    settings = {"group_id": group, "enable_auto_commit": False, "allow_auto_create_topics": False}
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, **settings)) as reader:  # never polls, so never joins
        partitions = [TopicPartition(topic, number) for number in reader.partitions_for_topic(topic)]
        offsets = {p.partition: reader.committed(p, timeout_ms=30_000) for p in partitions}
    return {number: offset for number, offset in offsets.items() if offset is not None}


@contextmanager
def transaction(bootstrap: str, name: str | None = None) -> Iterator[KafkaProducer]:
    """A transaction of another producer, still open."""
    with closing(KafkaProducer(bootstrap_servers=bootstrap, transactional_id=name or uuid.uuid4().hex)) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        yield producer
