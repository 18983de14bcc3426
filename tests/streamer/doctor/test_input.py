"""Checks of records, retention, the sample and the group's positions: each of them passes and fails."""

from dataclasses import replace

import pytest

from streamer.core.events import Partition
from streamer.delivery import Position
from streamer.doctor.facts import (
    SampleFacts,
)
from streamer.doctor.findings import Level, amount, duration
from streamer.doctor.group import check_group
from streamer.doctor.model import check_memory
from streamer.doctor.records import check_retention, check_sizes, check_times
from streamer.doctor.sample import check_identity, check_sample
from tests.streamer.doctor.facts import (
    GOOD,
    GROUP,
    INPUT,
    MODEL,
    NAMES,
    OURS,
    SAMPLE,
    levels,
    only,
    with_setting,
    with_topic,
)


@pytest.mark.parametrize(("name", "what"), [("forecasts", "a forecast"), ("g-events-changelog", "a snapshot")])
def test_a_topic_too_small_for_its_records_fails(name, what):
    told = only(check_sizes(NAMES, with_setting(name, "max.message.bytes", "2000"), MODEL, INPUT), "fail")
    assert f"record sizes of {name}: {what} of this model" in told
    assert "raise max.message.bytes to" in told


def test_an_input_that_takes_more_than_the_daemon_decodes_is_warned_of():
    kafka = with_setting("events", "max.message.bytes", "8388608")
    found = [str(finding) for finding in check_sizes(NAMES, kafka, None, INPUT) if finding.level is Level.WARN]
    assert "input.max_record_bytes is 1,048,576: records between are rejected as too_large" in found[0]
    assert "dead letters beyond are cut to 1 KB" in found[1]


def test_the_time_of_arrival_as_event_time_is_warned_of():
    kafka = with_setting("events", "message.timestamp.type", "LogAppendTime")
    by_record = INPUT.model_copy(update={"fields": INPUT.fields.model_copy(update={"ts": "$timestamp"})})
    assert "that of its arrival" in only(check_times(NAMES, kafka, by_record), "warn")
    assert levels(check_times(NAMES, kafka, INPUT)) == {"ok"}


def test_a_compacted_input_fails():
    kafka = with_setting("events", "cleanup.policy", "compact")
    assert "the input is compacted" in only(check_retention(NAMES, kafka, SAMPLE, 1000), "fail")


def test_input_that_goes_before_it_may_be_replayed_is_warned_of():
    told = only(
        check_retention(NAMES, with_setting("events", "retention.ms", "3600000"), SAMPLE, 2_000_000_000), "warn"
    )
    assert "retention.ms is 1 h, but 2,000,000,000 events (state.max_replay_events) take 46.3 d" in told
    assert "lower state.max_replay_events to 900,000" in told
    told = only(check_retention(NAMES, with_setting("events", "retention.bytes", "1000000"), SAMPLE, 2_000_000), "warn")
    assert "retention.bytes is 976.6 KiB per partition, 2,000,000 events" in told


def test_input_that_goes_before_a_new_models_streams_are_built_from_it_is_warned_of():
    day = with_setting("events", "retention.ms", "86400000")
    many = replace(SAMPLE, seen_in={f"s{n}": [Partition("events", n % 2)] for n in range(400)})
    assert levels(check_retention(NAMES, day, many, 1000, warm_steps=168)) == {"ok"}
    hour = with_setting("events", "retention.ms", "3600000")
    told = only(check_retention(NAMES, hour, many, 1000, warm_steps=168_000), "warn")
    assert "retention.ms is 1 h, but 168,000 steps of 200 streams and more in a partition" in told
    assert "(state.warm_from_input_steps) take 18.7 h at the sample's rate" in told
    assert "lower state.warm_from_input_steps to 4,500" in told
    small = with_setting("events", "retention.bytes", "1000000")
    assert "retention.bytes is 976.6 KiB per partition, 168 steps of 200 streams" in only(
        check_retention(NAMES, small, many, 1000, warm_steps=168), "warn"
    )
    assert levels(check_retention(NAMES, hour, SampleFacts(), 1000, warm_steps=168_000)) == {"ok"}


def test_input_kept_for_ever_is_good_whatever_the_rate():
    assert levels(check_retention(NAMES, with_setting("events", "retention.ms", "-1"), SAMPLE, 10**12)) == {"ok"}
    assert levels(check_retention(NAMES, GOOD, SampleFacts(), 10**12)) == {"ok"}


def with_positions(at):
    return replace(GOOD, group=replace(GROUP, positions={**OURS, Partition("events", 0): at}))


@pytest.mark.parametrize(
    ("at", "level", "told"),
    [
        (Position(50, ""), "fail", "offset 50 was committed by somebody else (its metadata is '')"),
        (Position(101, "tc1;lwm=101"), "fail", "offset 101 is committed, but the input ends at 100"),
        (None, "fail", "no position is committed, but the changelog holds snapshots"),
        (Position(60, "tc1;lwm=5"), "warn", "the input begins at 10, above the low-water mark 5"),
        (Position(5, "tc1;lwm=5"), "warn", "offset 5 is committed, but the input begins at 10: 5 offsets were deleted"),
    ],
)
def test_positions_that_do_not_fit_are_named_with_the_way_out(at, level, told):
    kafka = with_topic("events", with_positions(at), begin={0: 10, 1: 0})
    found = only(check_group(NAMES, kafka, "g"), level)
    assert told in found
    assert "position in events-0: " in found
    assert level == "warn" or "`streamer state reset`" in found


def test_positions_without_a_changelog_need_no_metadata_of_ours():
    kafka = with_topic("g-events-changelog", with_positions(Position(50, "")), partitions=0, end={})
    assert levels(check_group(NAMES, kafka, "g")) == {"ok"}


def test_a_group_tells_its_members_its_lag_and_what_a_restart_replays():
    kafka = replace(GOOD, group=replace(GROUP, members=("pod-1 at 10.0.0.7",)))
    found = [str(finding) for finding in check_group(NAMES, kafka, "g")]
    assert found[0] == "ok    group g: 1 members: pod-1 at 10.0.0.7"
    assert "committed for 2 of 2 partitions, lag 10, 10 to replay at a restart" in found[1]
    whole = with_positions(Position(100, "tc1;lwm=0"))
    assert "100 to replay at a restart" in str(list(check_group(NAMES, whole, "g"))[1])
    new = replace(with_topic("g-events-changelog", end={}), group=replace(GROUP, positions={}))
    assert "none committed yet" in str(list(check_group(NAMES, new, "g"))[1])


def test_a_group_that_may_not_be_seen_fails():
    kafka = replace(GOOD, group=replace(GROUP, refused="GroupAuthorizationFailedError"))
    assert "--operation Read --group g" in only(check_group(NAMES, kafka, "g"), "fail")


@pytest.mark.parametrize(
    ("count", "level", "told"),
    [(1000, "fail", "does input.fields describe"), (20, "warn", "2.0% as missing_field"), (1, "ok", "0.1% as")],
)
def test_rejected_records_tell_their_reason_and_share(count, level, told):
    sample = replace(SAMPLE, rejected={"missing_field": count}, examples={"missing_field": 'no "ts"'})
    found = only(check_sample(NAMES, sample), level)
    assert told in found
    assert 'no "ts"' in found


def test_an_input_without_records_is_no_problem_and_one_that_was_not_read_is():
    assert levels(check_sample(NAMES, SampleFacts())) == {"ok"}
    assert "not all of it was read: slow" in only(check_sample(NAMES, replace(SAMPLE, problem="slow")), "warn")


def test_a_stream_in_two_partitions_of_a_topic_is_warned_of_and_in_two_topics_it_is_not():
    twice = replace(
        SAMPLE, seen_in={"a": [Partition("events", 1), Partition("events", 0)], "b": [Partition("events", 1)]}
    )
    assert "1 of 2 ids: 'a' in events-0 and events-1" in only(check_identity(twice), "warn")
    apart = replace(SAMPLE, seen_in={"a": [Partition("events", 0), Partition("others", 0)]})
    assert levels(check_identity(apart)) == {"ok"}


def test_more_streams_than_memory_holds_are_warned_of():
    assert "set it to 636,291 or less" in only(check_memory(MODEL, 10**7, 2**30), "warn")


def test_amounts_and_durations_are_told_in_fitting_units():
    assert [amount(n) for n in (0, 1023, 2048, 3 * 2**20, 5 * 2**40)] == [
        "0 bytes", "1,023 bytes", "2.0 KiB", "3.0 MiB", "5,120.0 GiB",
    ]  # fmt: skip
    assert [duration(ms) for ms in (5, 1500, 90_000, 7_200_000, 86_400_000)] == [
        "5 ms",
        "1.5 s",
        "1.5 min",
        "2 h",
        "1 d",
    ]
