"""What the brokers say of themselves, the topics, the group and this user's permissions: the facts for `doctor`.

What this user may not see, or brokers do not tell, is left empty; only that none answers is an error.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import (
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ConfigResource,
    ConfigResourceType,
    OffsetSpec,
    ResourcePatternFilter,
    ResourceType,
)
from kafka.errors import (
    AuthorizationError,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupIdNotFoundError,
    InvalidTransactionTimeoutError,
    KafkaError,
    NoError,
    NotCoordinatorError,
    SecurityDisabledError,
    UnknownTopicOrPartitionError,
    for_code,
)
from kafka.protocol.producer import InitProducerIdRequest, TxnOffsetCommitRequest

from streamer.adapters.kafka_python.connecting import admin_client, open_client
from streamer.adapters.kafka_python.metadata import position_of
from streamer.adapters.kafka_python.options import TRANSACTION_TIMEOUT_SECONDS, consumer_options, quiet_library
from streamer.core.events import Partition
from streamer.delivery import Position
from streamer.doctor.facts import ClusterFacts, GroupFacts, KafkaFacts, TimeLimits, TopicFacts
from streamer.settings import KafkaSettings

INTERNAL = ("__consumer_offsets", "__transaction_state")
GROUP_METADATA_VERSION = 3  # of TxnOffsetCommit: the first with the group's generation
COORDINATOR_SECONDS = 10.0  # a cluster's first question for a coordinator creates its internal topic
RETRY_SECONDS = 0.1
COMMITTED_MS = 10_000
TRANSACTION_KEY = 1  # of a coordinator for transactional ids
ERROR_NUMBER = re.compile(r"\[Error (\d+)\]")
NO_TIMEOUT = -1  # refused by the coordinator, so that asking changes nothing


def time_limits(kafka: KafkaSettings) -> TimeLimits:
    """The consumer's and the producer's, as the settings make them."""
    options = KafkaConsumer.DEFAULT_CONFIG | consumer_options(kafka)
    return TimeLimits(
        round(TRANSACTION_TIMEOUT_SECONDS * 1000),
        options["session_timeout_ms"],
        options["heartbeat_interval_ms"],
        options["max_poll_interval_ms"],
    )


def inspect(kafka: KafkaSettings, inputs: Sequence[str], others: Sequence[str]) -> KafkaFacts:
    """All that the brokers say of the input topics, the other topics, the group and themselves.

    Raises ConfigError when no broker answers.
    """
    quiet_library()
    with admin_client(kafka) as admin:
        # the coordinators first: a new cluster creates its internal topics when it is asked for them
        transactional_id = f"{kafka.group_id}-{kafka.group_instance_id or 'doctor'}"
        transactional = _transactional(admin, transactional_id)
        members, operations, refused = _members(admin, kafka.group_id)
        read = describe_topics(admin, inputs)
        partitions = [Partition(name, number) for name in inputs for number in range(read[name].partitions)]
        positions: Mapping[Partition, Position | None] = {}
        if not refused:
            try:
                positions = committed_positions(kafka, partitions)
            except KafkaError as error:
                refused = type(error).__name__
        # the ends after the positions, or those of a running daemon would lie beyond them
        topics = describe_topics(admin, [*inputs, *others, *INTERNAL])
        cluster = _cluster(admin)
    group = GroupFacts(refused, members, positions, operations, transactional_id, transactional)
    return KafkaFacts(cluster, topics, group)


def group_members(kafka: KafkaSettings) -> Sequence[str]:
    """Who is in the group. Raises ConfigError."""
    with admin_client(kafka) as admin:
        return _described(admin, kafka.group_id)[0]


def committed_positions(kafka: KafkaSettings, partitions: Sequence[Partition]) -> Mapping[Partition, Position | None]:
    """The group's committed positions, once no pending transaction can change them; KafkaError if they are refused."""
    options = consumer_options(kafka) | {"group_instance_id": None}
    with closing(open_client(KafkaConsumer, kafka, options)) as consumer:  # it never polls, so it never joins
        found = {
            partition: consumer.committed(TopicPartition(*partition), metadata=True, timeout_ms=COMMITTED_MS)
            for partition in partitions
        }
    return {partition: position_of(at) for partition, at in found.items()}


def describe_topics(admin: Any, names: Sequence[str]) -> dict[str, TopicFacts]:
    """The topics' facts; asking does not create them."""
    described = {topic["name"]: topic for topic in admin.describe_topics(names)}
    there = [name for name, topic in described.items() if for_code(topic["error_code"]) is NoError]
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in there]
    found = _told(lambda: admin.describe_configs(asked, config_filter="all")) if asked else {}
    settings = found.get("topic", {})
    return {name: _topic(admin, described[name], settings.get(name, {})) for name in names}


def _topic(admin: Any, described: Mapping[str, Any], settings: Mapping[str, Any]) -> TopicFacts:
    error = for_code(described["error_code"])
    operations = frozenset(described.get("authorized_operations") or ()) or None
    if error is UnknownTopicOrPartitionError:
        return TopicFacts(operations=operations)
    if error is not NoError:
        return TopicFacts(refused=error.__name__, operations=operations)
    partitions, name = described["partitions"], described["name"]
    numbers = [partition["partition_index"] for partition in partitions]
    worst = min(partitions, key=lambda p: len(p["isr_nodes"]))
    return TopicFacts(
        partitions=len(partitions),
        copies=min(len(p["replica_nodes"]) for p in partitions),
        in_sync=len(worst["isr_nodes"]),
        headless=sum(p["leader_id"] < 0 for p in partitions),
        settings=_values(settings),
        operations=operations,
        begin=_offsets(admin, name, numbers, OffsetSpec.EARLIEST),
        end=_offsets(admin, name, numbers, OffsetSpec.LATEST),
    )


def _offsets(admin: Any, name: str, numbers: Sequence[int], which: OffsetSpec) -> dict[int, int]:
    asked = {TopicPartition(name, number): which for number in numbers}
    found = _told(lambda: admin.list_partition_offsets(asked))
    return {partition.partition: at.offset for partition, at in found.items()}


def _cluster(admin: Any) -> ClusterFacts:
    described = admin.describe_cluster()
    serving = [each["broker_id"] for each in described["brokers"] if not each.get("is_fenced")]
    broker = str(min(serving))
    asked = [ConfigResource(ConfigResourceType.BROKER, broker)]
    settings = _told(lambda: admin.describe_configs(asked, config_filter="all")).get("broker", {})
    versions = admin.get_broker_version_data(int(broker))
    _, newest = versions.api_versions.get(TxnOffsetCommitRequest.API_KEY, (0, 0))
    return ClusterFacts(
        brokers=len(serving),
        fenced=len(described["brokers"]) - len(serving),
        version=versions.broker_version,
        group_transactions=newest >= GROUP_METADATA_VERSION,
        settings=_values(settings.get(broker, {})),
        operations=frozenset(described.get("authorized_operations") or ()) or None,
        authorizer=_has_authorizer(admin),
    )


def _has_authorizer(admin: Any) -> bool | None:
    everything = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    try:
        admin.describe_acls(ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, everything))
    except SecurityDisabledError:
        return False
    except AuthorizationError:
        return True
    except KafkaError:
        return None
    return True


def _members(admin: Any, group_id: str) -> tuple[Sequence[str], frozenset[str] | None, str]:
    try:
        return *_described(admin, group_id), ""
    except KafkaError as error:
        return (), None, type(error).__name__


def _described(admin: Any, group_id: str) -> tuple[Sequence[str], frozenset[str] | None]:
    group = _patiently(lambda: _group(admin, group_id))
    members = [
        (each.get("group_instance_id") or each["member_id"]) + " at " + each["client_host"].lstrip("/")
        for each in group["members"]
    ]
    return members, frozenset(group.get("authorized_operations") or ()) or None


def _group(admin: Any, group_id: str) -> Mapping[str, Any]:
    group: Mapping[str, Any] = admin.describe_groups([group_id])[group_id]
    if told := ERROR_NUMBER.search(group["error"] or ""):  # the library has made text of it
        error = for_code(int(told[1]))
        if error is not GroupIdNotFoundError:
            raise error(group_id)
    return group


def _transactional(admin: Any, transactional_id: str) -> frozenset[str] | None:
    """What this user may do with a transactional id; None where the brokers cannot say now.

    Write is asked for with a request that the coordinator refuses, after permissions, for its impossible time limit:
    a good one would shut out the process that has this id.
    """
    try:
        node = _patiently(lambda: admin._manager.run(admin._find_coordinator_id, transactional_id, TRANSACTION_KEY))
        request = InitProducerIdRequest(transactional_id=transactional_id, transaction_timeout_ms=NO_TIMEOUT)
        error = for_code(admin._manager.run(admin._manager.send, request, node).error_code)
    except AuthorizationError:
        return frozenset()
    except KafkaError:
        return None
    if error is InvalidTransactionTimeoutError:
        return frozenset({"DESCRIBE", "WRITE"})
    return frozenset({"DESCRIBE"}) if issubclass(error, AuthorizationError) else None


def _patiently(ask: Callable[[], Any]) -> Any:
    """Ask a coordinator that may have to be found first."""
    deadline = time.monotonic() + COORDINATOR_SECONDS
    while True:
        try:
            return ask()
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)


def _told(ask: Callable[[], Any]) -> Any:
    """The answer; empty where it is refused, or does not come."""
    try:
        return ask()
    except KafkaError:
        return {}


def _values(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings without those that are secret or unset."""
    return {name: each["value"] for name, each in settings.items() if each["value"] is not None}
