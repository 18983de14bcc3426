"""The daemon's client on kafka-python against a real broker."""

import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from streamer.adapters.kafka_python import client, create_topics, positions, transactions
from streamer.adapters.librdkafka import client as librdkafka_client
from streamer.core.events import Partition
from streamer.delivery import DeliveryError, FencedError, Messages, NotAMemberError, OutcomeUnknownError, Position
from streamer.errors import ConfigError, StateError
from streamer.kafka.wording import without_secrets
from streamer.settings import KafkaSettings
from tests.integration.broker import Cluster, free_ports
from tests.integration.members import Member, polled, polling, running
from tests.integration.records import Record, create_topic, produce, read_committed
from tests.integration.waiting import eventually

MEGABYTE = 2**20
TOO_LARGE = r"(MessageSizeTooLargeError|MSG_SIZE_TOO_LARGE).*raise max\.message\.bytes"


@pytest.fixture
def new_member(bootstrap: str, kafka_client: str) -> Callable[..., Member]:
    """Makes members on topics of their own, of three partitions each unless a test names others."""
    made: dict[str, str] = {}

    def make(**options: object) -> Member:
        for name in ("topic", "output"):
            if name not in options:
                options[name] = made.get(name) or create_topic(bootstrap, name, partitions=3)
                made[name] = str(options[name])
        return Member(bootstrap, **{"client": kafka_client} | options)

    return make


def topics_of(bootstrap: str) -> list[str]:
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        return admin.list_topics()


# Reading


def test_records_come_as_columns_with_their_headers(bootstrap, new_member):
    member = new_member()
    produce(bootstrap, member.topic, [Record(b"a", b"k", 1, [("h", b"1")], 1_700_000_000_000), Record(None, b"l", 1)])
    with running(member):
        member.join()
        batches: list = []
        eventually(lambda: batches.extend(member.client.poll(0.05, 10)) or sum(map(len, batches)) == 2, "two records")
    first = batches[0]
    assert first.partition == Partition(member.topic, 1)
    assert [offset for records in batches for offset in records.offsets] == [0, 1]
    assert [key for records in batches for key in records.keys] == [b"k", b"l"]
    assert [value for records in batches for value in records.values] == [b"a", None]
    assert first.timestamps[0] == 1_700_000_000_000
    assert first.headers(0) == [("h", b"1")]


def test_records_of_an_aborted_transaction_are_not_read(bootstrap, new_member):
    member = new_member()
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=member.topic)
    producer.init_transactions()
    for value, end in ((b"dropped", producer.abort_transaction), (b"kept", producer.commit_transaction)):
        producer.begin_transaction()
        producer.send(member.topic, value, partition=0)
        producer.flush()
        end()
    producer.close()
    with running(member):
        member.read(1)
    assert member.values == {0: [b"kept"]}


def test_a_restarted_member_continues_at_the_commit(bootstrap, new_member):
    first = new_member()
    produce(bootstrap, first.topic, [Record(b"1"), Record(b"2")])
    with running(first):
        first.read(2).commit()
    produce(bootstrap, first.topic, [Record(b"3")])
    second = new_member(group=first.group)
    with running(second):
        second.read(1)
    assert second.values == {0: [b"3"]}


def test_what_was_read_but_not_committed_is_read_again(bootstrap, new_member):
    first = new_member()
    produce(bootstrap, first.topic, [Record(b"1")])
    with running(first):
        first.read(1)
    second = new_member(group=first.group)
    with running(second):
        second.read(1)
    assert second.values == {0: [b"1"]}


def test_a_group_that_starts_at_the_latest_misses_nothing_from_then_on(bootstrap, new_member):
    first = new_member(start="latest")
    produce(bootstrap, first.topic, [Record(b"before")])
    with running(first):
        eventually(lambda: polled(first) and first.committed == {0: 1, 1: 0, 2: 0}, "the start committed")
    produce(bootstrap, first.topic, [Record(b"while nobody ran")])
    second = new_member(group=first.group, start="latest")
    with running(second):
        second.read(1)
    assert second.values == {0: [b"while nobody ran"]}


def test_a_group_can_start_at_a_time(bootstrap, new_member):
    member = new_member(start="2026-01-31T00:00:00Z")
    midnight = 1_769_817_600_000
    times = [(0, midnight - 1), (0, midnight), (0, midnight + 1), (1, midnight - 1)]
    produce(bootstrap, member.topic, [Record(b"%d" % ms, None, number, (), ms) for number, ms in times])
    with running(member):
        member.read(2)
        eventually(lambda: polled(member) and member.committed == {0: 1, 1: 1, 2: 0}, "the start committed")
    assert member.values == {0: [b"%d" % midnight, b"%d" % (midnight + 1)]}


def test_lag_counts_the_records_not_read_yet(bootstrap, new_member, monkeypatch):
    monkeypatch.setattr(positions, "LAG_INTERVAL_SECONDS", 0.0)
    member = new_member()
    produce(bootstrap, member.topic, [Record(b"1", partition=2)] * 5)
    with running(member):
        member.read(5)
        everything = {Partition(member.topic, number): 0 for number in range(3)}
        eventually(lambda: member.client.lag() == everything, "no lag")
        produce(bootstrap, member.topic, [Record(b"2", partition=2)] * 7)
        eventually(lambda: member.client.lag() == everything | {Partition(member.topic, 2): 7}, "a lag of 7")


# Committing


def test_messages_land_on_the_partition_they_name(bootstrap, new_member):
    member = new_member()
    with running(member):
        member.join().commit(*(member.forecasts(b"%d" % number, partition=number) for number in (2, 0, 1)))
    stored = read_committed(bootstrap, member.output)
    assert [(r.partition, r.key, r.value) for r in stored] == [(n, b"stream", b"%d" % n) for n in range(3)]


def test_messages_of_a_partition_keep_their_order(bootstrap, new_member):
    member = new_member()
    values = [b"%d" % number + os.urandom(1000) for number in range(2000)]
    with running(member):
        member.join()
        for start in range(0, len(values), 500):
            member.commit(member.forecasts(*values[start : start + 500]))
    assert [record.value for record in read_committed(bootstrap, member.output)] == values


def test_offsets_wait_for_output_to_be_durable(bootstrap, new_member):
    small = create_topic(bootstrap, "output", partitions=3, settings={"max.message.bytes": 1000})
    member = new_member(output=small)
    produce(bootstrap, member.topic, [Record(b"1")])
    with running(member):
        member.read(1)
        with pytest.raises(DeliveryError, match=TOO_LARGE):
            member.commit(member.forecasts(b"fits", os.urandom(5000)))
        assert member.committed == {0: 0, 1: 0, 2: 0}
        member.commit(member.forecasts(b"fits"))
        assert member.committed == {0: 1, 1: 0, 2: 0}


def test_a_large_record_is_read_and_its_dead_letter_cut_where_its_topic_refuses_it(bootstrap, new_member):
    settings = {"max.message.bytes": 4 * MEGABYTE}
    topic = create_topic(bootstrap, "input", partitions=3, settings=settings)
    member = new_member(topic=topic, dead_letter_topic=create_topic(bootstrap, "dead"))
    large = os.urandom(3 * MEGABYTE)
    produce(bootstrap, topic, [Record(large, b"k"), Record(b"next")])
    with running(member):
        member.read(2)
        assert member.values == {0: [large, b"next"]}
        member.commit(member.dead_letters((b"k", large), (b"k", b"small"), partition=2), member.forecasts(b"f"))
        assert member.committed == {0: 2, 1: 0, 2: 0}
    cut, small = read_committed(bootstrap, member.dead_letter_topic)
    assert small.value == b"small"
    assert (cut.key, cut.value) == (b"k", large[:1024])
    assert list(cut.headers) == [("origin", b"1"), ("__streams.errors.exception", b"not_json")]
    assert [record.value for record in read_committed(bootstrap, member.output)] == [b"f"]


def test_a_dead_letter_stays_whole_where_its_topic_takes_it(bootstrap, new_member, kafka_client):
    dead = create_topic(bootstrap, "dead", settings={"max.message.bytes": 4 * MEGABYTE})
    member = new_member(dead_letter_topic=dead)
    large = os.urandom(3 * MEGABYTE)
    with running(member):
        member.join().commit(member.dead_letters((None, large), (None, None)))
    nothing = b"" if kafka_client == "kafka-python" else None  # it cannot send a record with neither key nor value
    assert [(r.key, r.value) for r in read_committed(bootstrap, dead)] == [(None, large), (None, nothing)]


def test_a_dead_letter_is_never_too_large_however_large_its_headers_and_key(bootstrap, new_member):
    member = new_member(dead_letter_topic=create_topic(bootstrap, "dead"))
    reason = ("__streams.errors.exception", b"not_json")
    headers = [[("huge", os.urandom(2 * MEGABYTE)), reason], [reason]]
    keys = [b"k", os.urandom(2 * MEGABYTE)]
    letters = Messages(Partition(member.dead_letter_topic, 0), keys, [b"v", b"w"], headers)
    with running(member):
        member.join().commit(letters)
    stored = [(r.key, r.value, list(r.headers)) for r in read_committed(bootstrap, member.dead_letter_topic)]
    assert stored == [(b"k", b"v", [reason]), (keys[1][:1024], b"w", [reason])]


# Sharing


def test_a_member_that_was_shut_out_commits_nothing(bootstrap, new_member):
    away_soon = {"max_poll_interval_ms": 1500, "session_timeout_ms": 1500, "heartbeat_interval_ms": 300}
    first = new_member(options=away_soon)
    second = new_member(group=first.group, options=away_soon)
    produce(bootstrap, first.topic, [Record(b"1")])
    with running(first):
        first.read(1)
        stale = dict(first.positions)
        with running(second):
            second.read(1).commit()  # the first one does not poll, so the group goes on without it
            produce(bootstrap, first.topic, [Record(b"2")])
            second.read(2).commit()
            with pytest.raises(NotAMemberError):
                first.client.transact([], stale)
            assert second.committed[0] == 2
            with polling(first, second):
                eventually(lambda: first.owned and second.owned, "both at work")
            if 0 not in first.owned:
                with pytest.raises(NotAMemberError, match="not ours any more"):
                    first.client.transact([], stale)
            assert second.committed[0] == 2


def test_a_named_member_keeps_its_partitions_over_a_restart(bootstrap, new_member):
    first = new_member(group_instance_id="a")
    other = new_member(group=first.group, group_instance_id="b")
    with running(other):
        with running(first):
            with polling(first, other):
                eventually(lambda: first.owned and other.owned and len(first.owned | other.owned) == 3, "shares")
            mine, others = first.owned, other.owned
        again = new_member(group=first.group, group_instance_id="a")
        with running(again):
            with polling(again, other):
                eventually(lambda: again.owned, "the restarted member's share")
            assert (again.owned, other.owned) == (mine, others)


def test_a_member_whose_name_another_takes_is_told_so(new_member):
    first = new_member(group_instance_id="a")
    second = new_member(group=first.group, group_instance_id="a")

    def contend() -> None:
        polled(second)
        first.client.commit_positions({Partition(first.topic, 0): Position(0, "")})

    with running(first):
        first.join()
        with running(second), pytest.raises(FencedError, match=r"has taken (the name 'a'|the place of 'group-\w+-a')"):
            eventually(contend, "an error")


def test_a_topic_that_grows_while_it_is_read_is_an_error(bootstrap, new_member, monkeypatch):
    for module in (client, librdkafka_client):
        monkeypatch.setattr(module, "PARTITIONS_INTERVAL_SECONDS", 0.0)
    member = new_member(options={"metadata_max_age_ms": 200})
    with running(member):
        eventually(lambda: polled(member) and member.owned, "partitions")
        with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
            admin.create_partitions({member.topic: 4})
        with pytest.raises(StateError, match=r"had 3 partitions at the start and has 4 now"):
            eventually(lambda: not polled(member), "an error")


# Starting


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
def test_an_unreachable_broker_is_refused_in_time(listening):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_ports(1)[0]))
        if listening:
            listener.listen()
        address = "{}:{}".format(*listener.getsockname())
        member = Member(address, "input", "output", connect_timeout_seconds=1.0)
        began = time.monotonic()
        with pytest.raises(ConfigError, match=rf"^kafka\.bootstrap_servers: .* at '{address}' within 1 s"):
            member.client.start(lambda: None)
        assert time.monotonic() - began < 10
    member.client.close()


@pytest.mark.parametrize(
    ("kafka_client", "options", "message"),
    [
        (
            "kafka-python",
            {"sasl_pasword": "hunter2"},
            r"^kafka\.options\.sasl_pasword: kafka-python has no such",
        ),
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


# Outages


@pytest.fixture(scope="module")
def own_cluster(launcher) -> Iterator[Cluster]:
    cluster = Cluster(launcher)
    cluster.start()
    yield cluster
    cluster.close()


def test_a_broker_restart_is_survived(own_cluster):
    bootstrap, (broker,) = own_cluster.bootstrap, own_cluster.brokers
    member = Member(bootstrap, create_topic(bootstrap), create_topic(bootstrap))
    produce(bootstrap, member.topic, [Record(b"1")])
    with running(member):
        member.read(1)
        broker.stop()
        for _ in range(5):
            assert member.poll() == 0
            member.client.lag()
        broker.start()
        produce(bootstrap, member.topic, [Record(b"2")])
        member.read(2)
        assert member.values == {0: [b"1", b"2"]}
        member.commit(member.forecasts(b"1", b"2"))
        member.commit()
        eventually(lambda: polled(member) and member.committed == {0: 2}, "the offset committed")
    assert [record.value for record in read_committed(bootstrap, member.output)] == [b"1", b"2"]


def test_a_broker_that_hangs_does_not_stop_the_loop(own_cluster, monkeypatch):
    monkeypatch.setattr(positions, "LAG_INTERVAL_SECONDS", 0.0)
    bootstrap, (broker,) = own_cluster.bootstrap, own_cluster.brokers
    member = Member(bootstrap, create_topic(bootstrap), create_topic(bootstrap))
    with running(member):
        eventually(lambda: polled(member) and member.client.lag(), "a lag")
        known = member.client.lag()
        os.kill(broker.process.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            for _ in range(3):
                member.poll()
                assert member.client.lag() == known
            assert time.monotonic() - began < 10  # about a second; a request's own limit is 15
        finally:
            os.kill(broker.process.pid, signal.SIGCONT)
        produce(bootstrap, member.topic, [Record(b"1")])
        member.read(1)


def test_output_that_no_broker_takes_in_time_leaves_an_unknown_outcome(own_cluster, monkeypatch):
    monkeypatch.setattr(transactions, "OPEN_SECONDS", 1.0)
    monkeypatch.setattr(transactions, "ABORT_SECONDS", 0.5)
    bootstrap, (broker,) = own_cluster.bootstrap, own_cluster.brokers
    member = Member(bootstrap, create_topic(bootstrap), create_topic(bootstrap))
    with running(member):
        member.join().commit(member.forecasts(b"1"))
        broker.stop()
        with pytest.raises(OutcomeUnknownError):
            member.commit(member.forecasts(b"2"))
    broker.start()
