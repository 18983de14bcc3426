"""Topics held against what the daemon needs of them, and created on request; never on their own."""

from collections.abc import Mapping, Sequence
from typing import Any

from kafka.errors import NoError, RetriableError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from streamer.adapters.kafka_python.connecting import admin_client
from streamer.errors import ConfigError
from streamer.settings import InputSettings, KafkaSettings, OutputSettings


def check_topics(kafka: KafkaSettings, input_: InputSettings, output: OutputSettings) -> Mapping[str, int]:
    """The number of partitions of each topic the daemon uses.

    Raises ConfigError, naming setting, topic and remedy, for one that is missing or has too few.
    """
    settings = dict.fromkeys(input_.topics, "input.topics") | {output.topic: "output.topic"}
    if output.dead_letter_topic:
        settings[output.dead_letter_topic] = "output.dead_letter_topic"
    with admin_client(kafka) as admin:
        counts = partition_counts(admin, list(settings))
    at = f"--bootstrap-server {kafka.bootstrap_servers}"
    for topic, setting in settings.items():
        if counts[topic] == 0:
            raise ConfigError(
                f"{setting}: topic {topic!r} does not exist at {kafka.bootstrap_servers}; create it: "
                f"`streamer topics create`, or `kafka-topics.sh {at} --create --topic {topic}`"
            )
    widest = max(input_.topics, key=lambda topic: counts[topic])
    if counts[output.topic] < counts[widest]:
        raise ConfigError(
            f"output.topic: topic {output.topic!r} has {counts[output.topic]} partitions, but input topic {widest!r} "
            f"has {counts[widest]}, and a forecast goes to its event's partition number; add partitions: "
            f"`kafka-topics.sh {at} --alter --topic {output.topic} --partitions {counts[widest]}`"
        )
    return counts


def partition_counts(admin: Any, topics: Sequence[str]) -> Mapping[str, int]:
    """Number of partitions of each topic; 0 where it does not exist. Asking does not create it."""
    counts = dict.fromkeys(topics, 0)
    for described in admin.describe_topics(topics):
        error = for_code(described["error_code"])
        if error is NoError or (issubclass(error, RetriableError) and error is not UnknownTopicOrPartitionError):
            counts[described["name"]] = len(described["partitions"])
        elif error is not UnknownTopicOrPartitionError:
            raise error(described["name"])
    return counts


def create_topics(kafka: KafkaSettings, topics: Sequence[str], partitions: int, replication: int = -1) -> list[str]:
    """Create those of the topics that do not exist, and return their names.

    replication  copies of each partition; -1: as many as the cluster makes by default

    Raises ConfigError for an unreachable broker, and for a topic that the cluster refuses, with its reason.
    """
    wanted = {"num_partitions": partitions, "replication_factor": replication}
    with admin_client(kafka) as admin:
        missing = [topic for topic, count in partition_counts(admin, topics).items() if count == 0]
        if not missing:
            return []
        answer = admin.create_topics(dict.fromkeys(missing, wanted), raise_errors=False)
        errors = {topic["name"]: (for_code(topic["error_code"]), topic["error_message"]) for topic in answer["topics"]}
        for topic, (error, message) in errors.items():
            if error not in (NoError, TopicAlreadyExistsError):
                raise ConfigError(f"topic {topic!r} cannot be created: {message or error.__name__}")
        admin.wait_for_topics(missing)
    return [topic for topic in missing if errors[topic][0] is NoError]
