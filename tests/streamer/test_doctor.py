"""The doctor's checks, on facts made by hand: each of them passes and fails."""

from dataclasses import replace

import pytest

from streamer.adapters.onnx_session import OnnxModel
from streamer.core.events import Partition
from streamer.delivery import NotNowError, Position
from streamer.doctor import Instruments, diagnose
from streamer.doctor.cluster import check_limits, check_offsets_retention, check_restore, check_versions
from streamer.doctor.command import examine
from streamer.doctor.facts import (
    ClusterFacts,
    GroupFacts,
    KafkaFacts,
    ModelFacts,
    Names,
    SampleFacts,
    TimeLimits,
    TopicFacts,
)
from streamer.doctor.findings import Level, amount, duration, fail, ok
from streamer.doctor.group import check_group
from streamer.doctor.model import check_memory, check_model
from streamer.doctor.permissions import check_permissions
from streamer.doctor.records import check_retention, check_sizes, check_times
from streamer.doctor.sample import check_identity, check_sample, remind
from streamer.doctor.topics import check_changelog, check_copies, check_existence, check_partitions
from streamer.errors import ConfigError, ContractError
from streamer.settings import InputSettings, load_settings
from tests import models
from tests.drive import event, records

ALL = frozenset({"READ", "WRITE", "DESCRIBE", "CREATE"})
NAMES = Names(["events"], "forecasts", "rejected", {"events": "g-events-changelog"})
PLAIN = {
    "cleanup.policy": "delete",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "min.insync.replicas": "2",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
}
COMPACTED = {
    **PLAIN,
    "cleanup.policy": "compact",
    "delete.retention.ms": "86400000",
    "max.compaction.lag.ms": "600000",
    "min.cleanable.dirty.ratio": "0.2",
    "segment.bytes": "67108864",
}
TOPIC = TopicFacts(
    partitions=2, copies=3, in_sync=3, settings=PLAIN, operations=ALL, begin={0: 0, 1: 0}, end={0: 100, 1: 50}
)
CHANGELOG = replace(TOPIC, settings=COMPACTED)
BROKER = {
    "group.min.session.timeout.ms": "6000",
    "group.max.session.timeout.ms": "1800000",
    "transaction.max.timeout.ms": "900000",
    "offsets.retention.minutes": "10080",
}
CLUSTER = ClusterFacts(3, 0, (4, 0), True, BROKER, ALL, True)
OURS = {Partition("events", 0): Position(100, "tc1;lwm=90"), Partition("events", 1): Position(40, "tc1;lwm=40")}
GROUP = GroupFacts("", (), OURS, ALL, "g-doctor", frozenset({"DESCRIBE", "WRITE"}))
TOPICS = {"events": TOPIC, "forecasts": TOPIC, "rejected": TOPIC, "g-events-changelog": CHANGELOG}
GOOD = KafkaFacts(CLUSTER, TOPICS, GROUP)
MODEL = ModelFacts("gru@1", "ab" * 32, ("CPUExecutionProvider",), 1000, 1200, 3000)
LIMITS = TimeLimits(10_000, 30_000, 3_000, 60_000)
SAMPLE = SampleFacts(
    records=1000,
    bytes=80_000,
    seen_in={"a": [Partition("events", 0)], "b": [Partition("events", 1)]},
    spans={Partition("events", 0): (500, 1000), Partition("events", 1): (500, 2000)},
)
INPUT = InputSettings(topics=("events",))


def with_topic(name, kafka=GOOD, **changes):
    """The good facts, but for one topic."""
    return replace(kafka, topics={**kafka.topics, name: replace(kafka.topic(name), **changes)})


def with_setting(name, setting, value):
    return with_topic(name, settings={**GOOD.topic(name).settings, setting: value})


def levels(findings):
    return {finding.level.value for finding in findings}


def only(findings, level):
    """The one finding of a level, as it is printed."""
    (found,) = [str(finding) for finding in findings if finding.level.value == level]
    return found


def everything(kafka=GOOD, limits=LIMITS, sample=SAMPLE, model=MODEL):
    yield from check_versions(kafka.cluster, "broker:9092")
    yield from check_existence(NAMES, kafka)
    yield from check_partitions(NAMES, kafka)
    yield from check_changelog("g-events-changelog", kafka.topic("g-events-changelog"))
    yield from check_copies(NAMES, kafka)
    yield from check_permissions(NAMES, kafka, "g")
    yield from check_limits(limits, kafka.cluster)
    yield from check_sizes(NAMES, kafka, model, INPUT)
    yield from check_times(NAMES, kafka, INPUT)
    yield from check_retention(NAMES, kafka, sample, 2_000_000)
    yield from check_offsets_retention(NAMES, kafka.cluster, kafka)
    yield from check_restore(NAMES, kafka)
    yield from check_group(NAMES, kafka, "g")
    yield from check_sample(NAMES, sample)
    yield from check_identity(sample)
    yield from check_model(model)
    yield from check_memory(model, 1_000_000, 2**40)
    yield remind(NAMES)


def test_a_good_set_up_has_nothing_to_mend():
    assert [str(finding) for finding in everything() if finding.level is not Level.OK] == []


def test_a_finding_is_one_line_of_level_subject_what_was_found_and_the_remedy():
    assert str(fail("topic x", "does not exist", "create it")) == "fail  topic x: does not exist; create it"
    assert str(ok("topic x", "exists")) == "ok    topic x: exists"


def test_where_nothing_may_be_seen_no_check_fails_for_it_but_those_of_permissions():
    blind = TopicFacts(partitions=2, copies=3, in_sync=3)
    kafka = KafkaFacts(
        replace(CLUSTER, settings={}, operations=None, authorizer=None),
        dict.fromkeys(TOPICS, blind),
        GroupFacts(transactional_id="g-doctor"),
    )
    found = list(everything(kafka))
    assert levels(found) == {"ok", "warn"}
    assert any("the brokers do not say what this user may do" in str(finding) for finding in found)


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
        ("delete.retention.ms", "60000", "fail", "expected delete.retention.ms of at least 1 h, found 1 min"),
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


def test_positions_that_expire_within_a_day_are_warned_of():
    cluster = replace(CLUSTER, settings={**BROKER, "offsets.retention.minutes": "60"})
    assert "offsets.retention.minutes is 1 h" in only(check_offsets_retention(NAMES, cluster, GOOD), "warn")


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
    assert "set it to 687,194 or less" in only(check_memory(MODEL, 10**7, 2**30), "warn")


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


class FakeReader:
    """One partition's records, served at once; none at all for a problem."""

    def __init__(self, logs, problem=""):
        self._logs, self._problem = logs, problem
        self._at = None

    def seek(self, partition, offset):
        self._at = (partition, offset)

    def read(self, timeout_seconds):
        if self._problem:
            raise NotNowError(self._problem)
        partition, offset = self._at
        records = self._logs[partition]
        assert offset == records.offsets[0]
        return records, records.offsets[-1] + 1


@pytest.fixture
def settings(tmp_path):
    path = models.save(models.echo(), tmp_path / "echo.onnx")
    given = {
        "model.path": path,
        "kafka.group_id": "g",
        "input.topics": "events",
        "output.dead_letter_topic": "rejected",
    }
    return load_settings([f"--{name}={value}" for name, value in given.items()], {})


def instruments(settings, **changes):
    log = [event("a", 1), event("a", 2), b"{}"]
    logs = {Partition("events", n): records(log, partition=Partition("events", n)) for n in (0, 1)}
    kafka = with_topic("events", end={0: 3, 1: 3})
    kafka = replace(kafka, group=replace(GROUP, positions=dict.fromkeys(OURS)))
    kafka = with_topic("g-events-changelog", kafka, end={0: 0, 1: 0})
    good = Instruments(
        load_model=lambda: OnnxModel(settings.model.path),
        time_limits=lambda: LIMITS,
        inspect=lambda names: kafka,
        reader=FakeReader(logs),
        memory_bytes=2**40,
    )
    return replace(good, **changes)


def test_the_whole_of_it_reads_a_sample_with_the_daemons_own_decoder(settings):
    lines = []
    assert diagnose(settings, instruments(settings), lines.append)
    assert lines[0] == "ok    settings: every name is known and every value can be used"
    (rejected,) = [line for line in lines if "recent input" in line]
    assert "6 records read, 1 streams, 2 records rejected, 33.3% as missing_field" in rejected
    assert any("'a' in events-0 and events-1" in line for line in lines)
    assert "isolation.level=read_committed" in lines[-1]


def test_a_model_that_cannot_be_used_leaves_all_other_checks_running(settings):
    def broken():
        raise ContractError("model.onnx: not a model; export it again")

    found = list(examine(settings, instruments(settings, load_model=broken)))
    assert only(found, "fail") == "fail  model.onnx: not a model; export it again"
    assert any(finding.subject == "group g" for finding in found)
    assert any("without its model" in str(finding) for finding in found)


def test_settings_that_do_not_fit_the_model_fail(settings):
    mapped = settings.input.fields.model_copy(update={"covariates": {"temp": "t"}})
    wrong = settings.model_copy(update={"input": settings.input.model_copy(update={"fields": mapped})})
    assert only(examine(wrong, instruments(wrong)), "fail").startswith("fail  input.fields.covariates.temp: ")


def test_brokers_that_do_not_answer_fail_and_end_it(settings):
    def silent(names):
        raise ConfigError("kafka.bootstrap_servers: no broker answered; start one")

    lines = []
    assert not diagnose(settings, instruments(settings, inspect=silent), lines.append)
    assert lines[-2] == "fail  kafka.bootstrap_servers: no broker answered; start one"
    assert lines[-1].startswith("warn  topics, group and input: not looked at")
    assert any("model.path" in line for line in lines)


def test_input_that_cannot_be_read_is_warned_of(settings, monkeypatch):
    monkeypatch.setattr("streamer.doctor.gathering.SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr("streamer.doctor.gathering.PARTITION_SECONDS", 0.0)
    found = list(examine(settings, instruments(settings, reader=FakeReader({}, "no answer"))))
    assert any("not all of it was read: events-1 was read up to offset 0 of 3" in str(finding) for finding in found)
