"""A start against a real broker: topics that are missing or do not fit, options that nobody takes, changelogs."""

import socket
import time
import uuid

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from streamer.adapters.kafka_python import create_topics, ensure_changelogs
from streamer.core.events import Partition
from streamer.delivery import Messages
from streamer.errors import ConfigError
from streamer.kafka.wording import without_secrets
from streamer.settings import KafkaSettings
from streamer.tasks import changelog_name
from tests.integration.broker import free_ports
from tests.integration.members import Member, at, running
from tests.integration.records import Record, create_topic, produce, read_committed


def topics_of(bootstrap: str) -> list[str]:
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        return admin.list_topics()


@pytest.mark.parametrize("setting", ["input.topics", "output.topic", "output.dead_letter_topic"])
def test_a_missing_topic_is_refused_with_its_remedy_and_not_created(bootstrap, new_member, setting):
    missing = f"missing-{uuid.uuid4().hex[:8]}"
    names = {"input.topics": "topic", "output.topic": "output", "output.dead_letter_topic": "dead_letter_topic"}
    member = new_member(**{names[setting]: missing})
    with pytest.raises(ConfigError, match=rf"^{setting}: topic '{missing}' does not exist .*`streamer topics create`"):
        member.client.start(lambda: None)
    assert missing not in topics_of(bootstrap)


def test_an_output_with_fewer_partitions_than_the_input_is_refused(bootstrap, new_member):
    member = new_member(output=create_topic(bootstrap, "narrow", partitions=2))
    with pytest.raises(ConfigError, match=r"^output\.topic: .* has 2 .* has 3, .* --partitions 3"):
        member.client.start(lambda: None)


@pytest.mark.parametrize("listening", [False, True], ids=["nothing there", "silent"])
def test_an_unreachable_broker_is_refused_in_time(kafka_client, listening):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_ports(1)[0]))
        if listening:
            listener.listen()
        address = "{}:{}".format(*listener.getsockname())
        member = Member(address, "input", "output", client=kafka_client, connect_timeout_seconds=1.0)
        began = time.monotonic()
        with pytest.raises(ConfigError, match=rf"^kafka\.bootstrap_servers: .* at '{address}' within 1 s"):
            member.client.start(lambda: None)
        assert time.monotonic() - began < 10
    member.client.close()


@pytest.mark.parametrize(
    ("kafka_client", "options", "message"),
    [
        ("kafka-python", {"sasl_pasword": "hunter2"}, r"^kafka\.options\.sasl_pasword: kafka-python has no such"),
        ("kafka-python", {"security.protocol": "hunter2"}, r"it spells it security_protocol$"),
        ("kafka-python", {"auto_offset_reset": "hunter2"}, r"auto_offset_reset: .* set input\.start instead"),
        ("kafka-python", {"enable_auto_commit": True}, r"enable_auto_commit: the daemon sets this itself; remove it"),
        ("kafka-python", {"request_timeout_ms": "hunter2"}, r"request_timeout_ms: expected a number, found text$"),
        ("kafka-python", {"delivery_timeout_ms": 1}, r"^kafka\.options: .*Must set delivery_timeout_ms higher"),
        ("confluent", {"sasl_pasword": "hunter2"}, r"^kafka\.options\.sasl\.pasword: librdkafka has no such option"),
        ("confluent", {"security.protocol": "hunter2"}, r"^kafka\.options\.security\.protocol: Invalid value"),
        ("confluent", {"auto_offset_reset": "hunter2"}, r"auto\.offset\.reset: .* set input\.start instead"),
        ("confluent", {"enable.auto.commit": True}, r"enable\.auto\.commit: the daemon sets this itself; remove it"),
        ("confluent", {"session.timeout.ms": "hunter2"}, r"^kafka\.options\.session\.timeout\.ms: Invalid value"),
        ("confluent", {"max.poll.interval.ms": 1000}, r"^kafka\.options: .*max\.poll\.interval\.ms.*must be >="),
        ("confluent", {"sasl_mechanism": "PLAIN", "sasl.mechanisms": "PLAIN"}, r"sasl\.mechanisms: .* once more"),
        ("confluent", {"ssl.ca.pem": "hunter2"}, r"ssl\.ca\.pem: .* set ssl\.ca\.location"),
    ],
    indirect=["kafka_client"],
)
def test_an_unusable_option_is_refused_without_its_value(new_member, options, message):
    member = new_member(options=options)
    with pytest.raises(ConfigError, match=message) as refused:
        member.client.start(lambda: None)
    assert "hunter2" not in str(refused.value)
    member.client.close()


def test_a_message_of_the_library_is_shown_without_the_options_values():
    kafka = KafkaSettings(options={"sasl_plain_password": "hunter2", "request_timeout_ms": 1000})
    assert (
        without_secrets(ValueError("login of 'x' with 'hunter2' took 1000"), kafka)
        == "login of 'x' with '***' took 1000"
    )


# Creating topics


def test_topics_that_do_not_exist_are_created(bootstrap):
    kafka = KafkaSettings(bootstrap_servers=bootstrap)
    there, new = create_topic(bootstrap, "there"), f"new-{uuid.uuid4().hex[:8]}"
    assert create_topics(kafka, [there, new], partitions=4, replication=1) == [new]
    assert create_topics(kafka, [there, new], partitions=4) == []
    produce(bootstrap, new, [Record(b"1", partition=3)])
    assert [record.partition for record in read_committed(bootstrap, new)] == [3]


def test_a_topic_that_the_cluster_refuses_is_named_with_the_reason(bootstrap):
    kafka = KafkaSettings(bootstrap_servers=bootstrap)
    with pytest.raises(ConfigError, match=r"^topic 'refused' cannot be created: .*[Rr]eplication factor"):
        create_topics(kafka, ["refused"], partitions=1, replication=9)


def test_missing_changelogs_are_created_with_their_settings(bootstrap, new_member):
    member = new_member()
    name = changelog_name(member.group, member.topic)
    assert name == f"{member.group}-{member.topic}-changelog"
    with running(member), KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        (described,) = admin.describe_topics([name])
        assert len(described["partitions"]) == 3
        settings = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])["topic"][name]
        wanted = {
            "cleanup.policy": "compact",
            "segment.bytes": "67108864",
            "min.cleanable.dirty.ratio": "0.2",
            "delete.retention.ms": "86400000",
            "max.compaction.lag.ms": "600000",
        }
        assert {setting: settings[setting]["value"] for setting in wanted} == wanted
        member.join().client.transact([Messages(Partition(name, 2), [b"s"], [b"snapshot"])], at(member, 2, 1))
    assert [(r.partition, r.value) for r in read_committed(bootstrap, name)] == [(2, b"snapshot")]


def test_a_changelog_with_other_partitions_than_its_input_is_refused(bootstrap, new_member):
    member = new_member()
    ensure_changelogs(member.kafka, {member.topic: 2})
    with pytest.raises(ConfigError, match=r"changelog '.*' has 2 partitions, but its input '.*' has 3, .*--delete"):
        member.client.start(lambda: None)
    member.client.close()
