"""Transactions of the daemon's clients against a real broker: what is visible, and what is committed."""

import gc
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from streamer.core.events import Partition
from streamer.delivery import DeliveryError, NotAMemberError, NotNowError, OutcomeUnknownError, Position
from tests.integration.interference import lose_the_answer, membership, with_group
from tests.integration.members import at, committed, polled, running, values
from tests.integration.records import Record, create_topic, produce, read_committed, transaction
from tests.integration.waiting import eventually

TOO_LARGE = r"(MessageSizeTooLargeError|MSG_SIZE_TOO_LARGE).*raise max\.message\.bytes"


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
                [member.forecasts(b"gone", partition=1), member.forecasts(b"gone", os.urandom(5000))], at(member, 0, 7)
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


def test_refused_transactions_leave_nothing_running(new_member, without_collection):
    member = new_member()
    with running(member):
        member.join()
        stale = membership(member, generation_id=0)

        def refused() -> None:
            with_group(member, stale)
            with suppress(NotAMemberError):
                member.client.transact([], at(member, 0, 7))
                pytest.fail("not refused")
            with_group(member, None)
            member.client.transact([], at(member, 1, 8))  # with a producer of its own

        refused()
        before = threads()
        for _ in range(3):
            refused()
        eventually(lambda: threads() <= before, "the producers of before are gone")


def threads() -> int:
    """Those of the libraries, too."""
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.fixture
def without_collection() -> Iterator[None]:
    """A producer in a cycle of references would be there until Python's collector comes by, which may take hours."""
    gc.disable()
    yield
    gc.enable()


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
            (records,) = eventually(
                lambda: member.client.poll(timeout_seconds=20.0, max_records=10), "the other's record"
            )
            assert records.partition == Partition(member.topic, 1)
            assert time.monotonic() - began < 10
            other.commit_transaction()


def test_positions_can_be_committed_without_a_transaction(new_member):
    member = new_member()
    with running(member):
        member.join()
        member.client.commit_positions(at(member, 1, 4, "tc1;lwm=4"))
        assert committed(member, 0, 1) == [Position(0, "start"), Position(4, "tc1;lwm=4")]
        with pytest.raises(NotAMemberError, match="not ours any more: elsewhere-0"):
            member.client.commit_positions({Partition("elsewhere", 0): Position(1, "")})


@pytest.mark.parametrize("kafka_client", ["confluent"], indirect=True)  # the other commits them without a transaction
def test_positions_whose_commit_had_no_answer_are_committed_again_by_themselves(new_member):
    member = new_member()
    with running(member):
        member.join()
        lose_the_answer(member)
        with pytest.raises(NotNowError, match="the answer is lost"):
            member.client.commit_positions(at(member, 1, 4))
        member.client.commit_positions(at(member, 1, 5))
        assert committed(member, 1) == [Position(5, "")]
