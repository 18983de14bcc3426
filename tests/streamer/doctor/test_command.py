"""The whole of `streamer doctor` on facts made by hand."""

from dataclasses import replace

import pytest

from streamer.adapters.onnx_session import OnnxModel
from streamer.core.events import Partition
from streamer.delivery import NotNowError
from streamer.doctor import Instruments, diagnose
from streamer.doctor.cluster import check_limits, check_offsets_retention, check_restore, check_versions
from streamer.doctor.command import examine
from streamer.doctor.facts import (
    GroupFacts,
    KafkaFacts,
    TopicFacts,
)
from streamer.doctor.findings import Level, fail, ok
from streamer.doctor.group import check_group
from streamer.doctor.model import check_memory, check_model
from streamer.doctor.permissions import check_permissions
from streamer.doctor.records import check_retention, check_sizes, check_times
from streamer.doctor.sample import check_identity, check_sample, remind
from streamer.doctor.topics import check_changelog, check_copies, check_existence, check_partitions
from streamer.errors import ConfigError, ContractError
from streamer.settings import load_settings
from tests import models
from tests.drive import event, records
from tests.streamer.doctor.facts import (
    CLUSTER,
    GOOD,
    GROUP,
    INPUT,
    LIMITS,
    MODEL,
    NAMES,
    OURS,
    SAMPLE,
    TOPICS,
    levels,
    only,
    with_topic,
)


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


@pytest.mark.parametrize(("option", "value"), [("leads", (99,)), ("levels", (0.123,))])
def test_output_that_the_model_does_not_have_fails(settings, option, value):
    wrong = settings.model_copy(update={"output": settings.output.model_copy(update={option: value})})
    assert only(examine(wrong, instruments(wrong)), "fail").startswith(f"fail  output.{option}: ")


def test_thinned_output_of_a_model_without_a_grid_fails(settings, tmp_path):
    path = models.save(models.echo(step_ms=None), tmp_path / "per_event.onnx")
    wrong = settings.model_copy(update={"output": settings.output.model_copy(update={"every": 2})})
    found = examine(wrong, instruments(wrong, load_model=lambda: OnnxModel(path)))
    assert only(found, "fail").startswith("fail  output.every: ")


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
