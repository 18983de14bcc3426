"""Checks of the topics: each of them passes and fails."""

from dataclasses import replace

import pytest

from streamer.doctor.facts import (
    TopicFacts,
)
from streamer.doctor.topics import check_changelog, check_copies, check_existence, check_partitions
from tests.streamer.doctor.facts import (
    CHANGELOG,
    COMPACTED,
    GOOD,
    NAMES,
    levels,
    only,
    with_topic,
)


@pytest.mark.parametrize(
    ("kafka", "told"),
    [
        (
            with_topic("forecasts", partitions=0),
            "does not exist, output.topic names it; create it: `streamer topics create`",
        ),
        (with_topic("rejected", partitions=0), "does not exist, output.dead_letter_topic names it"),
        (with_topic("events", headless=1), "1 of its partitions have no leader"),
        (with_topic("events", refused="TopicAuthorizationFailedError"), "--operation Describe --topic events"),
        (with_topic("g-events-changelog", refused="X"), "--operation Describe --topic g-events-changelog"),
    ],
)
def test_topics_that_are_missing_or_hidden_fail(kafka, told):
    assert told in only(check_existence(NAMES, kafka), "fail")


def test_a_missing_changelog_is_created_by_run():
    kafka = with_topic("g-events-changelog", partitions=0)
    found = [str(finding) for finding in check_existence(NAMES, kafka)]
    assert "ok    topic g-events-changelog: does not exist yet; `streamer run` creates it" in found
    assert not list(check_changelog("g-events-changelog", TopicFacts()))


@pytest.mark.parametrize("name", ["forecasts", "rejected"])
def test_output_with_fewer_partitions_than_the_input_fails(name):
    told = only(check_partitions(NAMES, with_topic(name, partitions=1)), "fail")
    assert f"partitions of {name}: expected at least the 2 of input events, found 1" in told
    assert f"--topic {name} --partitions 2" in told
    assert levels(check_partitions(NAMES, with_topic(name, partitions=3))) == {"ok"}


@pytest.mark.parametrize("count", [1, 3])
def test_a_changelog_with_other_partitions_than_the_input_fails(count):
    told = only(check_partitions(NAMES, with_topic("g-events-changelog", partitions=count)), "fail")
    assert f"expected the 2 of input events, found {count}" in told


@pytest.mark.parametrize(
    ("setting", "value", "level", "told"),
    [
        ("cleanup.policy", "delete", "fail", "it deletes snapshots by age; `kafka-configs.sh --alter"),
        ("cleanup.policy", "compact,delete", "fail", "expected cleanup.policy=compact, found 'compact,delete'"),
        ("cleanup.policy", "", "fail", "it keeps every snapshot ever written"),
        ("segment.bytes", "1073741824", "warn", "expected segment.bytes 67,108,864 or less, found 1,073,741,824"),
        ("min.cleanable.dirty.ratio", "0.5", "warn", "expected min.cleanable.dirty.ratio 0.2 or less, found 0.5"),
        ("max.compaction.lag.ms", "9223372036854775807", "warn", "--add-config max.compaction.lag.ms=600000"),
        ("delete.retention.ms", "3600000", "fail", "expected delete.retention.ms of at least 4 h, found 1 h"),
    ],
)
def test_changelog_settings_that_endanger_a_restore_are_named(setting, value, level, told):
    topic = replace(CHANGELOG, settings={**COMPACTED, setting: value})
    assert told in only(check_changelog("g-events-changelog", topic), level)


@pytest.mark.parametrize(
    ("changes", "level", "told"),
    [
        ({"copies": 1, "in_sync": 1}, "fail", "min.insync.replicas is 2, but there are 1 copies"),
        ({"in_sync": 1}, "fail", "1 of 3 copies are in sync, writing needs 2"),
        ({"copies": 1, "in_sync": 1, "settings": {}}, "warn", "copies of events: 1: the loss of its broker"),
        ({"settings": {"min.insync.replicas": "1"}}, "warn", "3, but min.insync.replicas is 1"),
    ],
)
def test_copies_that_do_not_survive_a_broker_are_named(changes, level, told):
    assert told in only(check_copies(NAMES, with_topic("events", **changes)), level)


def test_topics_copied_alike_share_a_line():
    assert str(next(check_copies(NAMES, GOOD))).startswith(
        "ok    copies of events, forecasts, rejected, g-events-changelog: 3"
    )


def test_the_state_of_transactions_is_to_be_copied_too():
    kafka = with_topic("__transaction_state", partitions=50, copies=1, in_sync=1)
    assert "copies of __transaction_state: 1" in only(check_copies(NAMES, kafka), "warn")
