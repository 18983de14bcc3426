"""`streamer doctor` against real brokers: good set-ups, and broken ones."""

import json
import uuid

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType
from kafka.structs import OffsetAndMetadata

from streamer.adapters.kafka_python import inspection
from tests import models
from tests.drive import event
from tests.integration.commands import streamer
from tests.integration.daemon import running
from tests.integration.records import Record, create_topic, produce
from tests.integration.waiting import eventually

PARTITIONS = 2
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.bytes": 64 * 2**20,
    "min.cleanable.dirty.ratio": 0.2,
    "max.compaction.lag.ms": 600_000,
}


@pytest.fixture
def settings(bootstrap, tmp_path, kafka_client):
    """A good configuration: the echo model, topics and a group of its own."""
    return set_up(bootstrap, tmp_path) | {"kafka.client": kafka_client}


def set_up(bootstrap, folder, partitions=PARTITIONS):
    return {
        "model.path": str(models.save(models.echo(horizon=2), folder / "echo.onnx")),
        "kafka.bootstrap_servers": bootstrap,
        "kafka.group_id": f"group-{uuid.uuid4().hex[:8]}",
        "input.topics": create_topic(bootstrap, "events", partitions),
        "output.topic": create_topic(bootstrap, "forecasts", partitions),
        "output.dead_letter_topic": create_topic(bootstrap, "rejected", partitions),
    }


def changelog_of(settings, partitions=PARTITIONS, **configs):
    """The group's changelog, created as a test wants it; its name."""
    name = f"{settings['kafka.group_id']}-{settings['input.topics']}-changelog"
    wanted = {"num_partitions": partitions, "replication_factor": 1}
    wanted["configs"] = {key: str(value) for key, value in configs.items()}
    with KafkaAdminClient(bootstrap_servers=settings["kafka.bootstrap_servers"]) as admin:
        admin.create_topics({name: wanted}, wait_for_metadata=True)
    return name


def send(settings, *events):
    values = [json.dumps(each).encode() if isinstance(each, dict) else each for each, _ in events]
    records = [Record(value, partition=at) for value, (_, at) in zip(values, events, strict=True)]
    produce(settings["kafka.bootstrap_servers"], settings["input.topics"], records)


def commit(settings, offset, metadata):
    partition = TopicPartition(settings["input.topics"], 0)
    with KafkaAdminClient(bootstrap_servers=settings["kafka.bootstrap_servers"]) as admin:
        admin.alter_group_offsets(settings["kafka.group_id"], {partition: OffsetAndMetadata(offset, metadata, -1)})


def failures(text):
    return [line for line in text.splitlines() if line.startswith("fail")]


def test_a_good_set_up_passes_before_its_first_event(settings, capsys):
    status, text = streamer(capsys, settings, "doctor")
    assert (status, failures(text)) == (0, [])
    assert "`streamer run` creates it" in text
    assert "ok    recent input: no records" in text
    assert "the cluster has no authorizer" in text
    assert "none committed yet" in text


def test_a_good_set_up_passes_with_events_and_a_changelog(settings, capsys):
    changelog = changelog_of(settings, **COMPACTED)
    send(settings, (event("a", 1), 0), (event("b", 1), 1))
    status, text = streamer(capsys, settings, "doctor")
    assert (status, failures(text)) == (0, [])
    assert f"ok    settings of {changelog}: compacted, delete.retention.ms 1 d" in text
    assert "ok    recent input: 2 records read, 2 streams, 0 records rejected" in text
    assert "ok    time limits of the brokers: allow these" in text


def test_a_daemon_that_goes_on_meanwhile_is_not_taken_for_one_beyond_the_inputs_end(settings, capsys, monkeypatch):
    """Events are appended and committed between the doctor's looks at the positions and at the ends."""
    send(settings, *[(event("a", t), 0) for t in range(3)])
    looked = inspection.committed_positions

    def meanwhile(*arguments):
        send(settings, *[(event("a", t), 0) for t in range(3, 8)])
        commit(settings, 8, "tc1;lwm=8")
        return looked(*arguments)

    monkeypatch.setattr(inspection, "committed_positions", meanwhile)
    _, said = streamer(capsys, settings, "doctor")
    assert f"positions in {settings['input.topics']}" in said, said
    assert "the input ends at" not in said, said


def test_every_problem_is_told_in_one_run(settings, bootstrap, capsys):
    changelog = changelog_of(settings, partitions=1, **{"delete.retention.ms": 1000})
    settings["output.topic"] = create_topic(bootstrap, "narrow", 1, settings={"max.message.bytes": 1000})
    settings["output.dead_letter_topic"] = "not-there"
    settings["kafka.options"] = {"session_timeout_ms": 5000}
    send(settings, (event("a", 1), 0), (event("a", 1), 1), (b"{}", 1))
    commit(settings, 99, "by hand")
    status, text = streamer(capsys, settings, "doctor")
    assert status == 1
    told = "\n".join(failures(text))
    assert "topic not-there: does not exist, output.dead_letter_topic names it" in told
    assert f"partitions of {settings['output.topic']}: expected at least the 2" in told
    assert f"partitions of {changelog}: expected the 2" in told
    assert f"settings of {changelog}: expected cleanup.policy=compact, found 'delete'" in told
    assert "expected delete.retention.ms of at least 4 h, found 1 s" in told
    assert "expected transaction.timeout.ms below session.timeout.ms, found 10 s and 5 s" in told
    assert "offset 99 is committed, but the input ends at 1" in told
    assert "a forecast of this model may have" in told
    assert f"1 of 1 ids: 'a' in {settings['input.topics']}-0 and {settings['input.topics']}-1" in text
    assert "33.3% as missing_field" in text
    assert "segment.bytes 67,108,864 or less, found 1,073,741,824" in text


def test_a_model_that_is_not_there_leaves_the_brokers_looked_at(settings, capsys):
    settings["model.path"] = "nowhere.onnx"
    status, text = streamer(capsys, settings, "doctor")
    assert status == 1
    assert [line for line in failures(text) if "cannot read 'nowhere.onnx'" in line]
    assert f"ok    topic {settings['input.topics']}: exists" in text


def test_brokers_that_do_not_answer_are_the_finding(settings, capsys):
    settings |= {"kafka.bootstrap_servers": "127.0.0.1:1", "kafka.connect_timeout_seconds": "0.5"}
    status, text = streamer(capsys, settings, "doctor")
    assert status == 1
    assert "fail  kafka.bootstrap_servers: no broker answered at '127.0.0.1:1'" in text
    assert "ok    model.path" in text


def test_settings_that_cannot_be_used_are_refused_as_everywhere(settings, capsys):
    status, text = streamer(capsys, settings | {"state.max_streams": "many"}, "doctor")
    assert status == 2
    assert "streamer doctor: state.max_streams" in text


AUTHORIZED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",  # so that the brokers themselves, anonymous too, may go on
}


def for_somebody_else(kind, name, operation):
    """A permission for another user; this one then has none of the resource's."""
    return ACL("User:else", "*", operation, ACLPermissionType.ALLOW, ResourcePattern(kind, name))


def test_missing_permissions_are_named_with_the_commands_that_grant_them(make_cluster, tmp_path, capsys):
    cluster = make_cluster(settings=AUTHORIZED)
    cluster.start()
    settings = set_up(cluster.bootstrap, tmp_path)
    group = settings["kafka.group_id"]
    status, text = streamer(capsys, settings, "doctor")
    assert (status, failures(text)) == (0, [])
    assert f"ok    permission on transactional id {group}-doctor: Describe, Write" in text
    hidden, unwritable = settings["input.topics"], settings["output.topic"]
    mine = ACL("User:ANONYMOUS", "*", ACLOperation.DESCRIBE, ACLPermissionType.ALLOW,
               ResourcePattern(ResourceType.TOPIC, unwritable))  # fmt: skip
    with KafkaAdminClient(bootstrap_servers=cluster.bootstrap) as admin:
        admin.create_acls(
            [
                for_somebody_else(ResourceType.TOPIC, hidden, ACLOperation.READ),
                for_somebody_else(ResourceType.GROUP, group, ACLOperation.READ),
                for_somebody_else(ResourceType.TRANSACTIONAL_ID, f"{group}-doctor", ACLOperation.WRITE),
                mine,
            ]
        )

    def told():
        status, text = streamer(capsys, settings, "doctor")
        wanted = (
            f"fail  topic {hidden}: it cannot be described (TopicAuthorizationFailedError)",
            f"--operation Describe --operation Read --topic {hidden}",
            f"fail  permission on topic {unwritable}: expected Describe, Write; Write is not granted",
            f"fail  permission on group {group}: expected Describe, Read",
            f"--operation Describe --operation Write --transactional-id {group}- --resource-pattern-type prefixed",
        )
        return status == 1 and not [each for each in wanted if each not in text]

    eventually(told, "the brokers have heard of the permissions")


def test_a_broker_that_is_away_is_told_and_stops_no_check(make_cluster, tmp_path, capsys):
    cluster = make_cluster(brokers=3)
    cluster.start()
    settings = set_up(cluster.bootstrap, tmp_path)

    def told(*wanted):
        status, text = streamer(capsys, settings, "doctor")
        return (status, failures(text)) == (0, []) and not [each for each in wanted if each not in text]

    eventually(lambda: told(f"ok    copies of {settings['input.topics']}"), "every copy is in sync", 120)
    cluster.brokers[2].stop()
    eventually(lambda: told("warn  brokers: 2 brokers", "2 in sync, min.insync.replicas 2"), "its absence is told", 120)


def documented(settings):
    """The permissions that docs/operations.md lists for `streamer run`; nobody else has any of these resources."""
    group, topics = settings["kafka.group_id"], [settings["input.topics"], settings["output.topic"]]
    changelog = f"{group}-{topics[0]}-changelog"
    needs = [
        (ResourceType.TOPIC, topics[0], ("DESCRIBE", "READ")),
        (ResourceType.TOPIC, topics[1], ("DESCRIBE", "WRITE")),
        (ResourceType.TOPIC, settings["output.dead_letter_topic"], ("DESCRIBE", "WRITE")),
        (ResourceType.TOPIC, changelog, ("DESCRIBE", "READ", "WRITE", "CREATE")),
        (ResourceType.GROUP, group, ("DESCRIBE", "READ")),
        (ResourceType.TRANSACTIONAL_ID, f"{group}-", ("DESCRIBE", "WRITE")),
        (ResourceType.CLUSTER, "kafka-cluster", ("CLUSTER_ACTION",)),  # for the brokers, which are anonymous here, too
    ]
    prefixed = ACLResourcePatternType.PREFIXED
    return [
        ACL(
            "User:ANONYMOUS",
            "*",
            ACLOperation[operation],
            ACLPermissionType.ALLOW,
            ResourcePattern(kind, name, prefixed if name.endswith("-") else ACLResourcePatternType.LITERAL),
        )
        for kind, name, operations in needs
        for operation in operations
    ]


def test_the_documented_permissions_are_enough_to_run_and_to_reset(make_cluster, tmp_path, capsys, kafka_client):
    cluster = make_cluster(settings=AUTHORIZED)
    cluster.start()
    settings = set_up(cluster.bootstrap, tmp_path) | {"kafka.client": kafka_client}
    send(settings, (event("a", 1), 0), (event("b", 1), 1), (b"{}", 1))
    with KafkaAdminClient(bootstrap_servers=cluster.bootstrap) as admin:
        admin.create_acls(documented(settings))

    def in_force():
        return "brokers: may not be seen" in streamer(capsys, settings, "doctor")[1]

    eventually(in_force, "the brokers have heard of the permissions")
    with running(tmp_path, settings) as daemon:
        daemon.await_ready()
        eventually(lambda: daemon.metric("streamer_forecasts_published_total") == 2, "two forecasts")
        eventually(lambda: daemon.metric("streamer_dead_letters_published_total") == 1, "a dead letter")
        assert daemon.stop() == 0, daemon.log
    status, text = streamer(capsys, settings, "doctor")
    assert (status, failures(text)) == (0, [])
    assert "may not be seen; `kafka-acls.sh" in text
    assert streamer(capsys, settings, "state", "show", "a")[0] == 0
    assert streamer(capsys, settings, "state", "reset", "--yes")[0] == 0
