"""Topics held against what the daemon needs of them, and created on request; never on their own."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    AuthorizationError,
    NoError,
    RetriableError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from streamer.adapters.kafka_python.connecting import admin_client
from streamer.errors import ConfigError
from streamer.settings import InputSettings, KafkaSettings, OutputSettings
from streamer.tasks import changelog_name

CHANGELOG_SETTINGS = {
    "cleanup.policy": "compact",
    "segment.bytes": 64 * 2**20,
    "min.cleanable.dirty.ratio": 0.2,
    "delete.retention.ms": 24 * 3_600_000,  # far beyond any restore, which needs the tombstones it has come past
    "max.compaction.lag.ms": 10 * 60_000,
}
LARGEST_MESSAGE = "max.message.bytes"
PLACE_SECONDS = 3.0  # the loop waits meanwhile
USUAL_LARGEST_BYTES = 1_000_000  # a little below Kafka's default of 1,048,588


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


def ensure_changelogs(kafka: KafkaSettings, inputs: Mapping[str, int]) -> list[str]:
    """Create the missing changelogs of input topics, and return the names of all of them.

    inputs  the number of partitions of each input topic

    Raises ConfigError for an existing one that has other partitions than its input.
    """
    names = {topic: changelog_name(kafka.group_id, topic) for topic in inputs}
    with admin_client(kafka) as admin:
        found = partition_counts(admin, list(names.values()))
    for topic, name in names.items():
        if found[name] == 0:
            create_topics(kafka, [name], inputs[topic], settings=CHANGELOG_SETTINGS)
        elif found[name] != inputs[topic]:
            raise ConfigError(
                f"kafka.group_id: changelog {name!r} has {found[name]} partitions, but its input {topic!r} has "
                f"{inputs[topic]}, so its states belong to other streams now; delete it to start afresh "
                f"(`kafka-topics.sh --bootstrap-server {kafka.bootstrap_servers} --delete --topic {name}`), "
                "or take another kafka.group_id"
            )
    return list(names.values())


def largest_messages(kafka: KafkaSettings, topics: Sequence[str]) -> Mapping[str, int]:
    """How large a record of each topic may be; the usual size where the brokers may not tell us."""
    with admin_client(kafka) as admin:
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic, [LARGEST_MESSAGE]) for topic in topics]
        try:
            told = admin.describe_configs(asked, config_filter="all").get("topic", {})
        except AuthorizationError:
            told = {}
    largest = {topic: told.get(topic, {}).get(LARGEST_MESSAGE, {}).get("value") for topic in topics}
    return {topic: int(value or USUAL_LARGEST_BYTES) for topic, value in largest.items()}


def check_place(kafka: KafkaSettings, member_ids: Collection[str]) -> bool | None:
    """Whether our name in the group is still ours, or nobody's; None where the brokers do not say so at once.

    member_ids  what the group has called us, the last time and now: it may list us as we were for some time
    """
    try:
        with admin_client(kafka, PLACE_SECONDS) as admin:
            group = admin.describe_groups([kafka.group_id])[kafka.group_id]
    except (ConfigError, KeyError):
        return None
    return all(
        each["member_id"] in member_ids
        for each in group["members"]
        if each.get("group_instance_id") == kafka.group_instance_id
    )


def create_topics(
    kafka: KafkaSettings,
    topics: Sequence[str],
    partitions: int,
    replication: int = -1,
    settings: Mapping[str, object] | None = None,
) -> list[str]:
    """Create those of the topics that do not exist, and return their names.

    replication  copies of each partition; -1: as many as the cluster makes by default
    settings     topic settings by Kafka's names for them

    Raises ConfigError for an unreachable broker, and for a topic that the cluster refuses, with its reason.
    """
    configs = {name: str(value) for name, value in (settings or {}).items()}
    wanted = {"num_partitions": partitions, "replication_factor": replication, "configs": configs}
    with admin_client(kafka) as admin:
        missing = [topic for topic, count in partition_counts(admin, topics).items() if count == 0]
        if not missing:
            return []
        answer = admin.create_topics(dict.fromkeys(missing, wanted), raise_errors=False)
        errors = {topic["name"]: (for_code(topic["error_code"]), topic["error_message"]) for topic in answer["topics"]}
        for topic, (error, message) in errors.items():
            if error not in (NoError, TopicAlreadyExistsError):
                raise ConfigError(f"topic {topic!r} cannot be created: {message or error.__name__}")
        admin.wait_for_topics(missing, timeout_ms=kafka.connect_timeout_seconds * 1000)
    return [topic for topic in missing if errors[topic][0] is NoError]
