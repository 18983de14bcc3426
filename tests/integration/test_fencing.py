"""Two processes of one name: the later one shuts the earlier one out, and nothing of that one becomes visible."""

from contextlib import suppress

import pytest

from streamer.core.events import Partition
from streamer.delivery import FencedError, NotNowError, OutcomeUnknownError, Position
from tests.integration.interference import before_positions, give_up, membership, with_group
from tests.integration.members import at, committed, polled, running, values
from tests.integration.records import create_topic, transaction
from tests.integration.waiting import eventually


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


def test_a_member_whose_name_another_takes_is_told_so(new_member):
    first = new_member(group_instance_id="a")
    second = new_member(group=first.group, group_instance_id="a")

    def contend() -> None:
        polled(second)
        with suppress(NotNowError):  # while the second has not joined yet
            first.client.commit_positions({Partition(first.topic, 0): Position(0, "")})

    with running(first):
        first.join()
        with running(second), pytest.raises(FencedError, match=r"has taken (the name 'a'|the place of 'group-\w+-a')"):
            eventually(contend, "an error")


@pytest.mark.parametrize("kafka_client", ["confluent"])
def test_a_consumer_that_its_library_gives_up_is_replaced_once_the_name_is_known_to_be_ours(
    bootstrap, new_member, monkeypatch
):
    member = new_member(group_instance_id="a", topic=create_topic(bootstrap))
    with running(member):
        member.join()
        give_up(member)
        with monkeypatch.context() as patch:
            patch.setattr(member.client._cluster, "is_ours", lambda member_ids: None)  # brokers do not say
            assert member.client.poll(0.01, 1) == []
            member.client.hold(0.01)
            assert member.client.rebalance() is None
        eventually(lambda: polled(member) and 0 in member.gone, "its partition lost")
        member.join()
        member.client.transact([member.forecasts(b"1")], at(member, 0, 1))
    assert values(member) == [b"1"]


@pytest.mark.parametrize("kafka_client", ["confluent"])
def test_a_consumer_that_its_library_gives_up_since_another_has_its_name_ends_the_process(new_member):
    first = new_member(group_instance_id="a")
    second = new_member(group=first.group, group_instance_id="a")
    with running(first):
        first.join()
        with running(second):
            second.join()
            give_up(first)
            with pytest.raises(FencedError, match="has taken the name 'a'"):
                first.client.poll(0.01, 1)
