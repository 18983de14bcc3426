"""What the daemon's clients read of a topic, from where, and how much of it is left."""

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from streamer.adapters.kafka_python import client, positions
from streamer.adapters.librdkafka import client as librdkafka_client
from streamer.core.events import Partition
from streamer.errors import StateError
from tests.integration.members import polled, running
from tests.integration.records import Record, produce
from tests.integration.waiting import eventually


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


def test_nothing_that_was_fetched_ahead_is_lost_while_a_member_takes_no_records(bootstrap, new_member):
    """As it holds between attempts at a transaction: some of what was fetched is read, some waits in the library."""
    member = new_member()
    produce(bootstrap, member.topic, [Record(b"%d" % n, partition=n % 3) for n in range(3_000)])
    with running(member):
        member.join()
        found: dict[int, list[bytes | None]] = {number: list(member.values[number]) for number in range(3)}

        def read_some_and_hold() -> bool:
            for records in member.client.poll(0.05, 70):
                found[records.partition.number] += records.values
            member.client.hold(0.0)
            return sum(map(len, found.values())) >= 3_000

        eventually(read_some_and_hold, "all records")
    assert found == {number: [b"%d" % n for n in range(number, 3_000, 3)] for number in range(3)}


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
