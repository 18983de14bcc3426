"""Dead letters on a real broker: whole where their topic takes them, cut where it does not, never in the way."""

import os

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from streamer.core.events import Partition
from streamer.delivery import Messages, Position
from tests.integration.members import at, committed, running, values
from tests.integration.records import Record, create_topic, produce, read_committed

MEGABYTE = 2**20


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
