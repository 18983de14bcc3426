"""Partitions shared, handed over and lost: positions are committed by nobody but their owner."""

from contextlib import closing

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from streamer.core.events import Partition
from streamer.delivery import NotAMemberError, NotNowError, Position
from tests.integration.interference import before_positions, dropped, membership, with_group
from tests.integration.members import Member, at, committed, identity_of, polling, running, values
from tests.integration.records import Record, produce
from tests.integration.waiting import eventually

QUICK = {"heartbeat_interval_ms": 300}
SOON_DROPPED = QUICK | {"max_poll_interval_ms": 1500, "session_timeout_ms": 1500}


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


def test_what_is_lost_while_it_is_held_back_is_read_when_it_comes_again(bootstrap, new_member):
    member = new_member(options=SOON_DROPPED)
    with running(member):
        member.join()
        was = identity_of(member)
        eventually(lambda: identity_of(member) != was, "left, since it does not poll")
        eventually(lambda: member.client.hold(0.05) or not member.client._membership.running, "lost")
        produce(bootstrap, member.topic, [Record(b"%d" % number, partition=number) for number in range(3)])
        member.read(3)


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


def test_a_member_is_one_even_when_nothing_is_left_for_it(new_member):
    members = [new_member(options=QUICK)]
    members += [new_member(group=members[0].group, options=QUICK) for _ in range(3)]  # of three partitions
    with running(*members), polling(*members):
        assert not all(member.owned for member in members)
        eventually(lambda: all(member.is_taken_in for member in members), "all of them taken in")
        eventually(lambda: {n for member in members for n in member.owned} == {0, 1, 2}, "all partitions served")
        eventually(lambda: all(member.is_taken_in for member in members), "all of them taken in")
        assert any(not member.owned for member in members)


def test_where_the_input_begins_is_what_retention_left(bootstrap, new_member):
    member = new_member()
    produce(bootstrap, member.topic, [Record(b"%d" % number) for number in range(5)])
    with running(member):
        member.join()
        eventually(lambda: beginning(member) == 0, "the beginning")
        with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
            admin.delete_records({TopicPartition(member.topic, 0): 3})
        eventually(lambda: beginning(member) == 3, "the deletion")


def beginning(member: Member) -> int | None:
    """Where the member's first partition begins; None if the brokers did not say so in time."""
    try:
        return member.client.beginning(Partition(member.topic, 0))
    except NotNowError:
        return None
