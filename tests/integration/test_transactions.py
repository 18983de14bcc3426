"""Transactions of the daemon's clients against a real broker: what is visible, and what is said."""

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.structs import OffsetAndMetadata

from streamer.adapters.kafka_python import KafkaPythonLogReader, client, ensure_changelogs, transactions
from streamer.adapters.librdkafka import LibrdkafkaLogReader
from streamer.adapters.librdkafka import transactions as librdkafka_transactions
from streamer.core.events import Partition
from streamer.delivery import (
    DeliveryError,
    FencedError,
    LogReader,
    Messages,
    NotAMemberError,
    NotNowError,
    OutcomeUnknownError,
    Position,
)
from streamer.errors import ConfigError
from streamer.settings import KafkaSettings
from streamer.tasks import changelog_name
from tests.integration.broker import Broker, Cluster
from tests.integration.members import (
    Member,
    before_commit,
    identity_of,
    is_member,
    lose_the_answer,
    membership,
    polled,
    polling,
    running,
)
from tests.integration.records import Record, create_topic, end_offsets, produce, read_committed
from tests.integration.waiting import eventually

MEGABYTE = 2**20
TOO_LARGE = r"(MessageSizeTooLargeError|MSG_SIZE_TOO_LARGE).*raise max\.message\.bytes"
QUICK = {"heartbeat_interval_ms": 300}
SOON_DROPPED = QUICK | {"max_poll_interval_ms": 1500, "session_timeout_ms": 1500}


@pytest.fixture
def new_member(bootstrap: str, kafka_client: str) -> Callable[..., Member]:
    """Makes members on topics of their own, of three partitions each."""
    topic, output = (create_topic(bootstrap, name, partitions=3) for name in ("topic", "output"))

    def make(**options: object) -> Member:
        return Member(bootstrap, **({"topic": topic, "output": output, "client": kafka_client} | options))

    return make


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transactions that soon give up."""
    for module in (transactions, librdkafka_transactions):
        monkeypatch.setattr(module, "OPEN_SECONDS", 1.0)
        monkeypatch.setattr(module, "ABORT_SECONDS", 1.0)
    monkeypatch.setattr(client, "RECONNECT_SECONDS", 1.0)
    monkeypatch.setattr(librdkafka_transactions, "RECOVER_SECONDS", 1.0)


@pytest.fixture
def log(bootstrap: str, kafka_client: str) -> Iterator[LogReader]:
    """A log reader."""
    kafka = KafkaSettings(bootstrap_servers=bootstrap, client=kafka_client)
    kind = KafkaPythonLogReader if kafka_client == "kafka-python" else LibrdkafkaLogReader
    with closing(kind(kafka)) as log:
        yield log


@pytest.fixture(scope="module")
def own_cluster(launcher) -> Iterator[Cluster]:
    cluster = Cluster(launcher)
    cluster.start()
    yield cluster
    cluster.close()


@contextmanager
def transaction(bootstrap: str, name: str | None = None) -> Iterator[KafkaProducer]:
    """A transaction of another producer, still open."""
    with closing(KafkaProducer(bootstrap_servers=bootstrap, transactional_id=name or uuid.uuid4().hex)) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        yield producer


def before_positions(member: Member, act: Callable[[], object]) -> None:
    """Do something in the middle of the member's next transaction: after its messages, before its positions."""
    ask, asked = member.client._membership.group, []

    def group() -> object:
        asked.append(True)
        if len(asked) == 2:
            act()
        return ask()

    member.client._membership.group = group


def dropped(member: Member) -> None:
    """The member as its library has it when it hears that the group dropped it."""
    if member.kafka.client == "kafka-python":
        member.client._consumer._coordinator.reset_generation()
    else:
        member.client._membership._identity = lambda: (-1, "")


def with_group(member: Member, group: object) -> None:
    """Have the member claim a membership in its transactions; None: its true one."""
    member.client._membership.__dict__.pop("group", None)
    if group is not None:
        member.client._membership.group = lambda: group


def values(member: Member) -> list[bytes | None]:
    return [record.value for record in read_committed(member.bootstrap, member.output)]


def at(member: Member, number: int, offset: int, metadata: str = "") -> dict[Partition, Position]:
    return {Partition(member.topic, number): Position(offset, metadata)}


def committed(member: Member, *numbers: int) -> list[Position | None]:
    partitions = [Partition(member.topic, number) for number in numbers]
    found: list = []

    def answered() -> bool:
        try:
            found[:] = member.client.committed(partitions).values()
        except NotNowError:
            return False
        return True

    eventually(answered, "committed positions")
    return found


# Committed and aborted


def test_a_committed_transaction_is_all_visible_with_its_positions_and_their_metadata(new_member):
    member = new_member()
    positions = at(member, 0, 7, "tc1;lwm=3") | at(member, 2, 9, "tc1;lwm=9")
    with running(member):
        member.join()
        member.client.transact([member.forecasts(b"%d" % n, partition=n) for n in (2, 0, 1)], positions)
        assert committed(member, 0, 1, 2) == [Position(7, "tc1;lwm=3"), Position(0, "start"), Position(9, "tc1;lwm=9")]
    assert values(member) == [b"0", b"1", b"2"]


def test_an_aborted_transaction_is_invisible_and_its_positions_are_not_committed(bootstrap, new_member):
    small = create_topic(bootstrap, "output", partitions=3, settings={"max.message.bytes": 2000})
    member = new_member(output=small)
    with running(member):
        member.join()
        with pytest.raises(DeliveryError, match=TOO_LARGE):
            member.client.transact(
                [member.forecasts(b"gone", partition=1), member.forecasts(b"gone", os.urandom(5000))],
                at(member, 0, 7),
            )
        assert committed(member, 0) == [Position(0, "start")]
        member.client.transact([member.forecasts(b"next")], at(member, 0, 8))
        assert committed(member, 0) == [Position(8, "")]
    assert values(member) == [b"next"]


def test_positions_of_an_aborted_transaction_do_not_come_with_the_next_one(new_member):
    member = new_member()
    with running(member):
        member.join()
        stale = membership(member, generation_id=0)
        with_group(member, stale)
        with pytest.raises(NotAMemberError):
            member.client.transact([], at(member, 0, 7))
        with_group(member, None)
        member.client.transact([], at(member, 1, 8))
        assert committed(member, 0, 1) == [Position(0, "start"), Position(8, "")]


def test_a_transaction_of_messages_alone_or_of_nothing_is_committed(new_member):
    member = new_member()
    with running(member):
        member.join()
        member.client.transact([], {})
        member.client.transact([member.forecasts(b"1")], {})
    assert values(member) == [b"1"]


def test_a_partition_that_the_output_does_not_have_is_refused_for_good(new_member):
    member = new_member()
    with running(member):
        member.join()
        with pytest.raises(DeliveryError, match=r"Unrecognized partition 7|_UNKNOWN_PARTITION"):
            member.client.transact([member.forecasts(b"1"), member.forecasts(b"2", partition=7)], at(member, 0, 1))
        member.commit(member.forecasts(b"next"))
    assert values(member) == [b"next"]


def test_what_the_broker_never_takes_is_refused_for_good(new_member):
    member = new_member()
    with running(member):
        member.join()
        with pytest.raises(DeliveryError, match=r"OffsetMetadataTooLargeError|OFFSET_METADATA_TOO_LARGE"):
            member.client.transact([member.forecasts(b"gone")], at(member, 0, 1, "x" * 5000))


# Fenced


def test_a_second_process_of_the_same_name_shuts_out_the_first(new_member):
    first = new_member(group_instance_id="a")
    second = new_member(group=first.group, group_instance_id="a")
    with running(first):
        first.join()
        with running(second):
            with pytest.raises(OutcomeUnknownError):
                first.client.transact([first.forecasts(b"zombie")], at(first, 0, 1))
            second.join().client.transact([second.forecasts(b"alive")], at(second, 0, 1))
            with pytest.raises(FencedError, match="has taken the name 'a'"):
                first.client.recover()
    assert values(first) == [b"alive"]


def test_one_that_is_shut_out_in_the_middle_of_a_transaction_leaves_nothing_visible(new_member):
    first = new_member(group_instance_id="a")
    second = new_member(group=first.group, group_instance_id="a")
    with running(first):
        first.join()
        before_positions(first, lambda: second.client.start(lambda: None))
        with pytest.raises(OutcomeUnknownError):
            first.client.transact([first.forecasts(b"zombie")], at(first, 0, 1))
        second.join()
        assert committed(second, 0) == [Position(0, "start")]
        with pytest.raises(FencedError):
            first.client.recover()
        second.client.close()
    assert values(first) == []


def test_a_zombie_that_takes_the_next_epoch_all_the_same_commits_nothing_and_its_successor_goes_on(new_member):
    """It asked whose the place is just before the successor joined."""
    first = new_member(group_instance_id="a")
    second = new_member(group=first.group, group_instance_id="a")
    with running(first):
        first.join()
        with running(second):
            second.join()
            first.client._transactions.recover()
            with pytest.raises(FencedError):
                first.client.transact([first.forecasts(b"zombie")], at(first, 0, 1))
            with pytest.raises(OutcomeUnknownError):
                second.client.transact([second.forecasts(b"late")], at(second, 0, 1))
            second.client.recover()
            assert committed(second, 0) == [Position(0, "start")]
            second.client.transact([second.forecasts(b"alive")], at(second, 0, 1))
    assert values(first) == [b"alive"]


def test_a_member_whose_place_in_the_group_is_taken_is_fenced(new_member):
    first = new_member(group_instance_id="a")
    with running(first):
        first.join()
        other = membership(first, member_id="another")
        with_group(first, other)
        with pytest.raises(FencedError):
            first.client.transact([first.forecasts(b"zombie")], at(first, 0, 1))
    assert values(first) == []


def test_a_zombie_that_recovers_does_not_shut_out_its_successor(new_member):
    first = new_member(group_instance_id="a")
    second = new_member(group=first.group, group_instance_id="a")
    with running(first):
        first.join()
        with running(second):
            second.join()
            with pytest.raises(FencedError, match="has taken the name 'a'"):
                first.client.recover()
            second.commit(second.forecasts(b"alive"))
    assert values(second) == [b"alive"]


@pytest.mark.parametrize("name", ["", "a"])
def test_a_member_that_was_too_slow_recovers_while_its_name_is_its_own(bootstrap, new_member, name):
    member = new_member(group_instance_id=name)
    with running(member):
        member.join()
        with transaction(bootstrap, member.client._transactional_id):  # as the coordinator does when time is up
            with pytest.raises(OutcomeUnknownError):
                member.client.transact([member.forecasts(b"late")], at(member, 0, 1))
            with pytest.raises(OutcomeUnknownError):
                member.client.transact([member.forecasts(b"later")], at(member, 0, 2))
            member.client.recover()
        assert committed(member, 0) == [Position(0, "start")]
        member.client.transact([member.forecasts(b"again")], at(member, 0, 1))
        assert committed(member, 0) == [Position(1, "")]
    assert values(member) == [b"again"]


# Membership


@pytest.mark.parametrize("claim", [{"generation_id": 0}, {"member_id": "stranger"}], ids=["generation", "member"])
def test_the_broker_refuses_positions_of_another_generation_or_member(new_member, claim):
    member = new_member()
    with running(member):
        member.join()
        with_group(member, membership(member, **claim))
        with pytest.raises(NotAMemberError):
            member.client.transact([member.forecasts(b"gone")], at(member, 0, 7))
        assert committed(member, 0) == [Position(0, "start")]
        with_group(member, None)
        member.client.transact([member.forecasts(b"kept")], at(member, 0, 8))
    assert values(member) == [b"kept"]


def test_the_broker_takes_positions_of_whoever_claims_no_generation_so_we_never_send_them(new_member):
    member = new_member()
    with running(member):
        member.join()
        nobody = membership(member, generation_id=-1, member_id="")
        with_group(member, nobody)
        member.client.transact([], at(member, 0, 7))
        assert committed(member, 0) == [Position(7, "")]
        with_group(member, None)
        dropped(member)
        with pytest.raises(NotAMemberError, match="not a member"):
            member.client.transact([member.forecasts(b"gone")], at(member, 0, 8))
        with pytest.raises(NotAMemberError):
            member.client.commit_positions(at(member, 0, 8))
        assert committed(member, 0) == [Position(7, "")]
    assert values(member) == []


def test_a_member_that_lost_its_place_in_the_middle_of_a_transaction_commits_nothing(new_member):
    first = new_member(options=SOON_DROPPED)
    with running(first):
        first.join()
        was = identity_of(first)
        gone = lambda: identity_of(first) != was  # noqa: E731
        before_positions(first, lambda: eventually(gone, "left, since it does not poll"))
        with pytest.raises(NotAMemberError):
            first.client.transact([first.forecasts(b"gone")], at(first, 0, 1))
        with_group(first, None)
        first.join().client.transact([first.forecasts(b"kept")], at(first, 0, 1))
    assert values(first) == [b"kept"]


def test_what_is_lost_while_it_is_held_back_is_read_when_it_comes_again(bootstrap, new_member):
    member = new_member(options=SOON_DROPPED)
    with running(member):
        member.join()
        was = identity_of(member)
        eventually(lambda: identity_of(member) != was, "left, since it does not poll")
        eventually(lambda: member.client.hold(0.05) or not member.client._membership.running, "lost")
        produce(bootstrap, member.topic, [Record(b"%d" % number, partition=number) for number in range(3)])
        member.read(3)


@pytest.mark.parametrize("kafka_client", ["kafka-python"], indirect=True)
def test_a_member_that_came_back_as_another_has_lost_its_partitions_even_if_the_library_does_not_say_so(new_member):
    member = new_member(options=SOON_DROPPED)
    revocations = []
    member.on_revoke = lambda: revocations.append(True)
    with running(member):
        member.join()
        coordinator = member.client._consumer._coordinator
        coordinator.rejoining = True  # dropped in the middle of a join: the listener was told before, of nothing lost
        coordinator.reset_generation()
        everything = {Partition(member.topic, number) for number in range(3)}
        eventually(lambda: member.client.poll(0.05, 10) == [] and member.client._membership.is_stable, "joined")
        assert member.client._membership.running == set()
        change = member.client.rebalance()
        assert change is not None
        assert set(change.revoked) == set(change.assigned) == everything
    assert revocations == []


def test_a_partition_is_handed_over_with_a_transaction_finished_while_it_is_revoked(bootstrap, new_member):
    first = new_member(options=QUICK)
    second = new_member(group=first.group, options=QUICK)
    produce(bootstrap, first.topic, [Record(b"%d" % number, partition=number) for number in range(3)])
    first.on_revoke = lambda: first.commit(*(first.forecasts(b"%d" % n, partition=n) for n in range(3)))
    with running(first):
        first.read(3)
        with running(second):
            with polling(first, second):
                eventually(lambda: second.owned, "the second member's share")
                produce(bootstrap, first.topic, [Record(b"+", partition=number) for number in range(3)])
                eventually(lambda: first.count + second.count == 6, "three more records")
            assert first.owned | second.owned == {0, 1, 2}
            assert not first.owned & second.owned
            assert committed(second, 0, 1, 2) == [Position(1, "read")] * 3
    assert values(first) == [b"0", b"1", b"2"]
    assert set(second.values.keys()) <= second.owned
    assert all(read == [b"+"] for read in second.values.values())


# Unknown outcomes


def hang(broker: Broker) -> None:
    os.kill(broker.process.pid, signal.SIGSTOP)
    os.waitpid(broker.process.pid, os.WUNTRACED)  # until its last thread has stopped


def go_on(broker: Broker) -> None:
    os.kill(broker.process.pid, signal.SIGCONT)


@pytest.mark.parametrize(("disturb", "mend"), [(hang, go_on), (Broker.kill, Broker.start)], ids=["hanging", "killed"])
def test_a_broker_lost_in_the_middle_of_a_commit_leaves_the_outcome_to_the_committed_position(
    own_cluster, hurried, kafka_client, disturb, mend
):
    bootstrap, (broker,) = own_cluster.bootstrap, own_cluster.brokers
    member = Member(bootstrap, create_topic(bootstrap), create_topic(bootstrap), client=kafka_client)
    with running(member):
        member.join().commit(member.forecasts(b"before"))
        before_commit(member, lambda: disturb(broker))
        began = time.monotonic()
        with pytest.raises(OutcomeUnknownError):
            member.client.transact([member.forecasts(b"1")], at(member, 0, 1))
        assert time.monotonic() - began < 10
        with pytest.raises(NotNowError):
            member.client.recover()
        mend(broker)
        eventually(lambda: recovered(member), "recovered")
        done = committed(member, 0) == [Position(1, "")]
        assert values(member) == [b"before", b"1"] if done else [b"before"]
        if not done:
            eventually(lambda: polled(member) and is_member(member) and 0 in member.owned, "a member again")
            member.client.transact([member.forecasts(b"1")], at(member, 0, 1))
        assert committed(member, 0) == [Position(1, "")]
    assert values(member) == [b"before", b"1"]


def recovered(member: Member) -> bool:
    try:
        member.client.recover()
    except NotNowError:
        return False
    return True


def test_a_commit_whose_answer_is_lost_is_found_done(new_member):
    member = new_member()
    with running(member):
        member.join()
        lose_the_answer(member)
        with pytest.raises(OutcomeUnknownError, match="the answer is lost"):
            member.client.transact([member.forecasts(b"1")], at(member, 0, 1))
        member.client.recover()
        assert committed(member, 0) == [Position(1, "")]
        member.client.transact([member.forecasts(b"2")], at(member, 0, 2))
    assert values(member) == [b"1", b"2"]


def test_a_broker_that_hangs_before_the_commit_is_unknown_too_and_in_time(own_cluster, hurried, kafka_client):
    bootstrap, (broker,) = own_cluster.bootstrap, own_cluster.brokers
    member = Member(bootstrap, create_topic(bootstrap), create_topic(bootstrap), client=kafka_client)
    with running(member):
        member.join()
        before_positions(member, lambda: hang(broker))
        try:
            with pytest.raises(OutcomeUnknownError, match="not seen aborted"):
                member.client.transact([member.forecasts(b"1")], at(member, 0, 1))
        finally:
            go_on(broker)
        with_group(member, None)
        eventually(lambda: recovered(member), "recovered")
        assert committed(member, 0) == [Position(0, "start")]
        eventually(lambda: polled(member) and is_member(member) and 0 in member.owned, "a member again")
        member.client.transact([member.forecasts(b"2")], at(member, 0, 1))
    assert values(member) == [b"2"]


# Committed positions


def test_committed_positions_wait_for_pending_transactions(bootstrap, new_member):
    member = new_member()
    asked = Partition(member.topic, 0)
    with running(member):
        member.join()
        with transaction(bootstrap) as other:
            other.send_offsets_to_transaction({TopicPartition(*asked): OffsetAndMetadata(5, "new\0", -1)}, member.group)
            with pytest.raises(NotNowError, match="reading committed positions"):
                member.client.committed([asked])
            other.commit_transaction()
        assert committed(member, 0) == [Position(5, "new")]


def test_a_new_partition_whose_transaction_is_pending_stops_no_other(bootstrap, new_member):
    member = new_member()
    with transaction(bootstrap) as other:
        offsets = {TopicPartition(member.topic, 0): OffsetAndMetadata(1, "", -1)}
        other.send_offsets_to_transaction(offsets, member.group)
        with running(member):
            eventually(lambda: polled(member) and member.fresh == {Partition(member.topic, 0)}, "all the others")
            produce(bootstrap, member.topic, [Record(b"0"), Record(b"1", partition=1)])
            began = time.monotonic()
            (records,) = member.client.poll(timeout_seconds=20.0, max_records=10)
            assert records.partition == Partition(member.topic, 1)
            assert time.monotonic() - began < 10
            other.commit_transaction()


def test_an_answer_that_came_too_late_is_not_taken_for_the_next_one(bootstrap, own_cluster, kafka_client):
    bootstrap, (broker,) = own_cluster.bootstrap, own_cluster.brokers
    member = Member(bootstrap, create_topic(bootstrap), create_topic(bootstrap), client=kafka_client)
    asked = Partition(member.topic, 0)
    with running(member):
        member.join()
        hang(broker)
        try:
            with pytest.raises(NotNowError):
                member.client.committed([asked])
        finally:
            go_on(broker)
        member.client.transact([], at(member, 0, 5))
        assert committed(member, 0) == [Position(5, "")]


def test_positions_can_be_committed_without_a_transaction(new_member):
    member = new_member()
    with running(member):
        member.join()
        member.client.commit_positions(at(member, 1, 4, "tc1;lwm=4"))
        assert committed(member, 0, 1) == [Position(0, "start"), Position(4, "tc1;lwm=4")]
        with pytest.raises(NotAMemberError, match="not ours any more: elsewhere-0"):
            member.client.commit_positions({Partition("elsewhere", 0): Position(1, "")})


# The log reader


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


# Dead letters


def test_a_dead_letter_of_3_megabytes_does_not_abort_the_others(bootstrap, new_member):
    member = new_member(dead_letter_topic=create_topic(bootstrap, "dead"))
    large = os.urandom(3 * MEGABYTE)
    with running(member):
        member.join()
        letters = member.dead_letters((b"k", b"before"), (b"k", large), (b"k", b"after"), partition=2)
        member.client.transact([letters, member.forecasts(b"f")], at(member, 0, 1))
        assert committed(member, 0) == [Position(1, "")]
    before, cut, after = read_committed(bootstrap, member.dead_letter_topic)
    assert (before.value, cut.value, after.value) == (b"before", large[:1024], b"after")
    assert list(cut.headers) == [("origin", b"1"), ("__streams.errors.exception", b"not_json")]
    assert values(member) == [b"f"]


def test_dead_letters_go_again_cut_once_their_topic_takes_less_than_at_the_start(bootstrap, new_member):
    dead = create_topic(bootstrap, "dead", settings={"max.message.bytes": 4 * MEGABYTE})
    member = new_member(dead_letter_topic=dead)
    large = os.urandom(3 * MEGABYTE)
    with running(member):
        member.join()
        member.client.transact([member.dead_letters((b"k", large))], {})
        with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, dead, {"max.message.bytes": "2000"})])
        letters = member.dead_letters((b"k", large), (b"k", b"small"))
        member.client.transact([letters, member.forecasts(b"f")], at(member, 0, 1))
        assert committed(member, 0) == [Position(1, "")]
    assert [r.value for r in read_committed(bootstrap, dead)] == [large, large[:1024], b"small"]
    assert values(member) == [b"f"]


# Changelogs


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
