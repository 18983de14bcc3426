"""Checks of the brokers and of permissions: each of them passes and fails."""

from dataclasses import replace

import pytest

from streamer.doctor.cluster import check_limits, check_offsets_retention, check_restore, check_versions
from streamer.doctor.permissions import check_permissions
from tests.streamer.doctor.facts import (
    BROKER,
    CLUSTER,
    GOOD,
    GROUP,
    LIMITS,
    NAMES,
    levels,
    only,
    with_setting,
    with_topic,
)


def test_brokers_without_group_metadata_in_transactions_fail():
    cluster = replace(CLUSTER, version=(2, 4), group_transactions=False)
    assert "Kafka 2.4 or later, which lacks" in only(check_versions(cluster, "b:9092"), "fail")


def test_brokers_that_do_not_serve_are_counted():
    assert "1 more are known but do not serve" in only(check_versions(replace(CLUSTER, fenced=1), "b:9092"), "warn")


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (replace(LIMITS, session_ms=10_000), "expected transaction.timeout.ms below session.timeout.ms, found 10 s"),
        (
            replace(LIMITS, poll_ms=20_000),
            "expected session.timeout.ms below max.poll.interval.ms, found 30 s and 20 s",
        ),
    ],
)
def test_time_limits_in_the_wrong_order_fail(limits, told):
    assert told in only(check_limits(limits, CLUSTER), "fail")


def test_slow_heartbeats_are_warned_of():
    assert "one lost heartbeat" in only(check_limits(replace(LIMITS, heartbeat_ms=20_000), CLUSTER), "warn")


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("group.max.session.timeout.ms", "20000", "session.timeout.ms is 30 s, they allow 6 s to 20 s"),
        ("group.min.session.timeout.ms", "45000", "they allow 45 s to 30 min"),
        ("transaction.max.timeout.ms", "5000", "transaction.timeout.ms is 10 s, they allow 5 s"),
    ],
)
def test_brokers_that_do_not_allow_the_time_limits_fail(setting, value, told):
    cluster = replace(CLUSTER, settings={**BROKER, setting: value})
    assert told in only(check_limits(LIMITS, cluster), "fail")


@pytest.mark.parametrize(
    ("hours", "input_days", "warned"),
    [
        (1, 7, "is 1 h, and the input is kept 7 d"),
        (48, 7, "is 2 d, and the input is kept 7 d"),
        (48, 3, "is 2 d, and the input is kept 3 d"),
        (48, -1, "is 2 d, and the input is kept for ever"),
        (48, 2, ""),
        (12, 0.5, ""),
        (168, 30, ""),  # a week is enough of a pause, however long the input is kept
        (168, -1, ""),
    ],
)
def test_positions_that_expire_before_their_input_and_within_a_week_are_warned_of(hours, input_days, warned):
    cluster = replace(CLUSTER, settings={**BROKER, "offsets.retention.minutes": str(hours * 60)})
    kept_ms = -1 if input_days < 0 else round(input_days * 86_400_000)
    kafka = with_setting("events", "retention.ms", str(kept_ms))
    findings = list(check_offsets_retention(NAMES, cluster, kafka))
    assert levels(findings) == ({"warn"} if warned else {"ok"})
    assert warned in str(findings[0])


def test_a_restore_that_outlasts_its_tombstones_fails():
    kafka = with_topic("g-events-changelog", end={0: 10**9, 1: 0})
    assert "about 1.16 d to read" in only(check_restore(NAMES, kafka), "fail")


def test_without_an_authorizer_permissions_are_said_to_be_open():
    kafka = replace(GOOD, cluster=replace(CLUSTER, authorizer=False))
    assert [str(finding) for finding in check_permissions(NAMES, kafka, "g")] == [
        "ok    permissions: the cluster has no authorizer: every user may do everything"
    ]


@pytest.mark.parametrize(
    ("kafka", "told"),
    [
        (with_topic("events", operations=frozenset({"DESCRIBE"})), "--operation Read --topic events"),
        (with_topic("events", refused="TopicAuthorizationFailedError"), "--operation Describe --operation Read"),
        (with_topic("forecasts", operations=frozenset({"DESCRIBE", "READ"})), "--operation Write --topic forecasts"),
        (with_topic("rejected", operations=frozenset({"DESCRIBE"})), "Write is not granted"),
        (with_topic("g-events-changelog", operations=frozenset({"WRITE", "DESCRIBE"})), "--operation Read"),
        (replace(GOOD, group=replace(GROUP, operations=frozenset({"DESCRIBE"}))), "--operation Read --group g`"),
        (replace(GOOD, group=replace(GROUP, refused="X")), "--operation Describe --operation Read --group g"),
        (
            replace(GOOD, group=replace(GROUP, transactional=frozenset({"DESCRIBE"}))),
            "--operation Write --transactional-id g- --resource-pattern-type prefixed",
        ),
    ],
)
def test_a_missing_permission_fails_with_the_command_that_grants_it(kafka, told):
    assert told in only(check_permissions(NAMES, kafka, "g"), "fail")


def test_a_changelog_that_may_not_be_created_is_warned_of():
    kafka = replace(
        with_topic("g-events-changelog", partitions=0), cluster=replace(CLUSTER, operations=frozenset({"X"}))
    )
    assert "--operation Create --topic g-events-changelog" in only(check_permissions(NAMES, kafka, "g"), "warn")
