"""Brokers that stop, hang or die under the daemon's clients: every wait ends, and no outcome is guessed."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import KafkaAdminClient

from streamer.adapters.kafka_python import client, positions, transactions
from streamer.adapters.kafka_python.producer import TransactionalProducer
from streamer.adapters.librdkafka import ending
from streamer.adapters.librdkafka import transactions as librdkafka_transactions
from streamer.core.events import Partition
from streamer.delivery import AbortedError, NotNowError, OutcomeUnknownError, Position
from tests.integration.broker import Broker, Cluster
from tests.integration.interference import before_commit, before_positions, go_on, hang, with_group
from tests.integration.members import Member, at, committed, is_member, polled, recovered, running, values
from tests.integration.records import Record, create_topic, produce, read_committed
from tests.integration.waiting import eventually


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transactions that give up sooner, yet not before a busy machine has come to what is tested."""
    for module in (transactions, librdkafka_transactions):
        monkeypatch.setattr(module, "OPEN_SECONDS", 4.0)
        monkeypatch.setattr(module, "ABORT_SECONDS", 1.0)
    monkeypatch.setattr(client, "RECONNECT_SECONDS", 3.0)
    monkeypatch.setattr(librdkafka_transactions, "RECOVER_SECONDS", 3.0)


@pytest.fixture(scope="module")
def own_cluster(launcher) -> Iterator[Cluster]:
    cluster = Cluster(launcher)
    cluster.start()
    yield cluster
    cluster.close()


# Unknown outcomes


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
        assert time.monotonic() - began < 30  # not for as long as the broker stays away
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


def test_a_broker_that_hangs_before_the_commit_is_unknown_too_and_in_time(own_cluster, hurried, kafka_client):
    bootstrap, (broker,) = own_cluster.bootstrap, own_cluster.brokers
    member = Member(bootstrap, create_topic(bootstrap), create_topic(bootstrap), client=kafka_client)
    with running(member):
        member.join()
        before_positions(member, lambda: hang(broker))
        try:
            with pytest.raises(OutcomeUnknownError, match=r"not seen aborted|did not return"):
                member.client.transact([member.forecasts(b"1")], at(member, 0, 1))
        finally:
            go_on(broker)
        with_group(member, None)
        eventually(lambda: recovered(member), "recovered")
        assert committed(member, 0) == [Position(0, "start")]
        eventually(lambda: polled(member) and is_member(member) and 0 in member.owned, "a member again")
        member.client.transact([member.forecasts(b"2")], at(member, 0, 1))
    assert values(member) == [b"2"]


def test_output_that_no_broker_takes_in_time_is_given_up_and_can_be_sent_again(own_cluster, hurried, kafka_client):
    bootstrap, (broker,) = own_cluster.bootstrap, own_cluster.brokers
    member = Member(bootstrap, create_topic(bootstrap), create_topic(bootstrap), client=kafka_client)
    # librdkafka knows it for aborted where the coordinator had not heard of it
    told = OutcomeUnknownError if kafka_client == "kafka-python" else (OutcomeUnknownError, AbortedError)
    with running(member):
        member.join().commit(member.forecasts(b"1"))
        broker.stop()
        try:
            with pytest.raises(told):
                member.commit(member.forecasts(b"2"))
        finally:
            broker.start()
        eventually(lambda: recovered(member), "recovered")
        eventually(lambda: polled(member) and is_member(member) and 0 in member.owned, "a member again")
        member.commit(member.forecasts(b"2"))
    assert values(member) == [b"1", b"2"]


# Starting


def test_a_coordinator_that_is_busy_is_waited_for_at_the_start(own_cluster, monkeypatch):
    """As long as for a broker: a new cluster's takes seconds to make its own topic."""
    bootstrap, (broker,) = own_cluster.bootstrap, own_cluster.brokers
    member = Member(bootstrap, create_topic(bootstrap), create_topic(bootstrap), options={"max_block_ms": 100})
    let_in = TransactionalProducer.let_in

    def busy(producer: TransactionalProducer, limit_seconds: float) -> None:
        hang(broker)
        threading.Timer(1.0, go_on, [broker]).start()  # ten times what the library itself would wait
        let_in(producer, limit_seconds)

    monkeypatch.setattr(TransactionalProducer, "let_in", busy)
    with running(member):
        member.join()


# Closing


def test_a_client_whose_broker_hangs_is_closed_all_the_same(own_cluster, monkeypatch, caplog):
    monkeypatch.setattr(ending, "CLOSE_SECONDS", 0.2)  # librdkafka itself waits 5 s for the answer to a leave
    bootstrap, (broker,) = own_cluster.bootstrap, own_cluster.brokers
    member = Member(bootstrap, create_topic(bootstrap), create_topic(bootstrap), client="confluent")
    with running(member):
        member.join()
        hang(broker)
        try:
            member.client.close()
        finally:
            go_on(broker)
    assert "event=close_cut_short seconds=0.2" in caplog.text


# Reading


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


def test_a_broker_restart_is_survived(own_cluster, kafka_client):
    bootstrap, (broker,) = own_cluster.bootstrap, own_cluster.brokers
    member = Member(bootstrap, create_topic(bootstrap), create_topic(bootstrap), client=kafka_client)
    produce(bootstrap, member.topic, [Record(b"1")])
    with running(member):
        member.read(1)
        broker.stop()
        try:
            for _ in range(5):
                assert member.poll() == 0
                member.client.lag()
        finally:
            broker.start()
        produce(bootstrap, member.topic, [Record(b"2")])
        member.read(2)
        assert member.values == {0: [b"1", b"2"]}
        try:
            member.commit(member.forecasts(b"1", b"2"))
        except OutcomeUnknownError:  # the daemon's committer does the same
            member.client.recover()
            member.commit(member.forecasts(b"1", b"2"))
        member.commit()
        eventually(lambda: polled(member) and member.committed == {0: 2}, "the offset committed")
    assert [record.value for record in read_committed(bootstrap, member.output)] == [b"1", b"2"]


def test_a_broker_that_hangs_does_not_stop_the_loop(own_cluster, kafka_client, monkeypatch):
    monkeypatch.setattr(positions, "LAG_INTERVAL_SECONDS", 0.0)
    bootstrap, (broker,) = own_cluster.bootstrap, own_cluster.brokers
    member = Member(bootstrap, create_topic(bootstrap), create_topic(bootstrap), client=kafka_client)
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


def test_a_named_member_whose_session_ended_while_brokers_were_away_comes_back(own_cluster):
    """librdkafka may then send heartbeats without a member id, and take their refusal for a successor of its name."""
    bootstrap, (broker,) = own_cluster.bootstrap, own_cluster.brokers
    quick = {"session.timeout.ms": 6_000, "heartbeat.interval.ms": 300}
    topics = create_topic(bootstrap), create_topic(bootstrap)
    member = Member(bootstrap, *topics, client="confluent", group_instance_id="a", options=quick)
    with running(member):
        member.join()
        eventually(lambda: committed(member, 0), "its first position stable: a broker killed before may never do it")
        broker.kill()
        eventually(lambda: not member.client.is_member(), "the session over")
        broker.start()
        eventually(lambda: not _members(bootstrap, member.group), "the group without it")
        eventually(lambda: polled(member) and is_member(member) and member.owned and not member.fresh, "back")
        member.commit(member.forecasts(b"1"))
    assert values(member) == [b"1"]


def _members(bootstrap: str, group: str) -> list[object]:
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        return list(admin.describe_groups([group])[group]["members"])
