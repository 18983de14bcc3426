"""Append event lines to a topic: how the demo's year gets into Kafka."""

from collections.abc import Iterable
from contextlib import closing

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streamer.adapters.kafka_python.connecting import admin_client
from streamer.adapters.kafka_python.options import SEND_TIMEOUT_SECONDS, producer_options
from streamer.adapters.kafka_python.topics import partition_counts
from streamer.errors import ConfigError
from streamer.kafka.wording import without_secrets
from streamer.settings import KafkaSettings, OutputSettings


def feed(kafka: KafkaSettings, topic: str, events: Iterable[tuple[bytes, bytes]]) -> int:
    """Append (key, value) pairs, each to the partition its key hashes to; returns how many.

    Raises ConfigError for an unreachable broker, and for a topic that does not exist or refuses them.
    """
    with admin_client(kafka) as admin:
        if not partition_counts(admin, [topic])[topic]:
            raise ConfigError(f"topic {topic!r} does not exist at {kafka.bootstrap_servers}; `streamer topics create`")
    try:
        with closing(KafkaProducer(**producer_options(kafka, OutputSettings()))) as producer:
            sent = [producer.send(topic, value, key) for key, value in events]
            for future in sent:
                future.get(SEND_TIMEOUT_SECONDS)
    except KafkaError as error:
        raise ConfigError(f"topic {topic!r} was not written: {without_secrets(error, kafka)}") from None
    return len(sent)
