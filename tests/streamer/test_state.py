"""`streamer state show` and `reset` on logs made by hand: what they say, what they write, and in which order."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from streamer.adapters.onnx_session import OnnxModel
from streamer.checkpoint import position_of
from streamer.core.events import Partition, Records
from streamer.core.snapshot import SnapshotFormat, Snapshots
from streamer.delivery import NotNowError, Position
from streamer.reading import TooSlowError, patiently, read_up_to
from streamer.settings import load_settings
from streamer.state import reset, show
from tests import models

INPUT = [Partition("events", 0), Partition("events", 1)]
LOG = [Partition("g-events-changelog", 0), Partition("g-events-changelog", 1)]


class Logs:
    """Partitions as lists of (key, value), read two records at a time; `refusals` answers are refused first."""

    def __init__(self, logs, refusals=0):
        self.logs = logs
        self.refusals = refusals

    def begin(self, partition):
        return 0

    def end(self, partition):
        return len(self.logs.get(partition, ()))

    def seek(self, partition, offset):
        self.partition, self.at = partition, offset

    def read(self, timeout_seconds):
        if self.refusals:
            self.refusals -= 1
            raise NotNowError("the position is not known yet")
        part = self.logs[self.partition][self.at : self.at + 2]
        offsets = range(self.at, self.at + len(part))
        self.at += len(part)
        found = Records(self.partition, offsets, None, [key for key, _ in part], [value for _, value in part])
        return (found if part else None), self.at


@dataclass
class Group:
    """A consumer group as a script: who is in it each time it is asked, and what is committed."""

    positions: dict = field(default_factory=dict)
    members_then: list = field(default_factory=list)
    counts: dict = field(default_factory=lambda: {"events": 2, "g-events-changelog": 2})
    forgotten: list = field(default_factory=list)

    def members(self):
        return self.members_then.pop(0) if self.members_then else []

    def partitions(self, topics):
        return {topic: self.counts.get(topic, 0) for topic in topics}

    def committed(self, partitions):
        return {partition: self.positions.get(partition) for partition in partitions}

    def forget(self, tombstones, positions):
        self.forgotten.append((tombstones, positions))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return models.save(
        models.echo(static={"site": ("north", "south")}, warmup_steps=9), tmp_path_factory.mktemp("model") / "echo.onnx"
    )


@pytest.fixture(scope="module")
def path_of_another(tmp_path_factory):
    return models.save(models.echo(horizon=7), tmp_path_factory.mktemp("model") / "echo.onnx")


@pytest.fixture
def settings(path):
    given = {"model.path": path, "kafka.group_id": "g", "input.topics": "events"}
    return load_settings([f"--{name}={value}" for name, value in given.items()], {})


@pytest.fixture
def model(settings):
    return OnnxModel(settings.model.path)


@pytest.fixture
def snapshot(model):
    def make(slot=2, age=3, covers=7, code=2):
        format_ = SnapshotFormat(model.fingerprint, model.signature.states, 1)
        columns = [np.array([value]) for value in (slot, age, covers)]
        states = [np.full((1, *spec.shape), 4, spec.dtype) for spec in model.signature.states]
        return format_.encode(Snapshots(*columns, np.array([[code]]), states))[0]

    return make


def shown(settings, logs, model, group=None, stream="a"):
    lines = []
    found = show(stream, settings, group or Group({INPUT[1]: position_of(9, 7)}), Logs(logs), model, lines.append)
    return found, "\n".join(lines)


def test_a_stream_is_shown_from_its_last_snapshot(settings, model, snapshot):
    logs = {LOG[1]: [(b"a", snapshot(slot=1)), (b"b", b"x"), (b"a", snapshot())]}
    found, text = shown(settings, logs, model)
    assert found
    assert "events-1: 'a', snapshot at offset 2 of g-events-changelog-1" in text
    assert "echo@1, fingerprint" in text
    assert "last slot   2 = 1970-01-01T02:00:00Z" in text
    assert "3 steps since it began fresh, warm from 9 on" in text
    assert "site=south" in text
    assert "below input offset 7; committed 9, low-water mark 7: a restart replays its events in [7, 9)" in text
    assert "last float32 (1,)  norm 4  min 4  max 4  last values 4" in text
    assert "steps int64 ()" in text


def test_a_stream_in_two_partitions_is_shown_twice(settings, model, snapshot):
    _, text = shown(settings, {log: [(b"a", snapshot())] for log in LOG}, model)
    assert [line for line in text.splitlines() if line.startswith("events-")] == [
        "events-0: 'a', snapshot at offset 0 of g-events-changelog-0",
        "events-1: 'a', snapshot at offset 0 of g-events-changelog-1",
    ]


def test_an_unknown_stream_is_said_to_be_unknown(settings, model, snapshot):
    found, text = shown(settings, {LOG[0]: [(b"b", snapshot())]}, model)
    assert not found
    assert "'a': no snapshot in the changelogs of group 'g'" in text


def test_without_a_changelog_every_stream_is_unknown(settings, model):
    assert not shown(settings, {}, model, Group(counts={"events": 2}))[0]


def test_a_forgotten_stream_is_said_to_be_forgotten(settings, model, snapshot):
    found, text = shown(settings, {LOG[0]: [(b"a", snapshot()), (b"a", None)]}, model)
    assert not found
    assert "'a' was forgotten, tombstone at offset 1" in text


def test_a_corrupt_snapshot_is_said_to_be_corrupt(settings, model):
    assert "is corrupt or of another format" in shown(settings, {LOG[0]: [(b"a", b"nonsense")]}, model)[1]


def test_another_models_snapshot_is_shown_without_its_shapes(settings, snapshot, path_of_another):
    _, text = shown(settings, {LOG[1]: [(b"a", snapshot())]}, OnnxModel(path_of_another))
    assert "not the configured echo@1" in text
    assert "codes       2" in text
    assert "last slot   2\n" in text
    assert "no model.path to compare it with" in shown(settings, {LOG[1]: [(b"a", snapshot())]}, None)[1]


@pytest.mark.parametrize(
    ("position", "told"),
    [
        (None, "the group has committed no position"),
        (Position(9, ""), "offset 9 was committed by somebody else: `streamer state reset`"),
        (position_of(5, 5), "it covers more than was committed, `streamer state reset`"),
    ],
)
def test_a_snapshot_that_does_not_fit_what_was_committed_is_told(settings, model, snapshot, position, told):
    assert told in shown(settings, {LOG[1]: [(b"a", snapshot())]}, model, Group({INPUT[1]: position}))[1]


def a_reset(settings, group, logs, confirm=True):
    lines = []
    ends = {INPUT[0]: [(b"a", b"")] * 20, INPUT[1]: [(b"a", b"")] * 20}
    done = reset(settings, group, Logs({**ends, **logs}), lambda: confirm, lines.append)
    return done, "\n".join(lines)


def test_a_reset_forgets_every_stream_and_commits_the_offsets_as_ours(settings, snapshot):
    group = Group({INPUT[0]: Position(5, "somebody"), INPUT[1]: position_of(9, 3)})
    logs = {LOG[0]: [(b"a", snapshot(covers=7)), (b"b", b"corrupt"), (b"c", snapshot()), (b"c", None)]}
    done, text = a_reset(settings, group, logs)
    assert done
    assert group.forgotten == [({LOG[0]: [b"a", b"b"]}, {INPUT[0]: position_of(5, 5), INPUT[1]: position_of(9, 9)})]
    assert "2 streams will start fresh" in text
    assert (
        "events-0: 2 snapshots, goes on at offset 5; committed by somebody else, metadata 'somebody'; 1 snapshots cover"
        in text
    )
    assert "events-1: 0 snapshots, goes on at offset 9\n" in text


def test_a_reset_leaves_a_partition_without_a_position_to_input_start(settings, snapshot):
    group = Group({})
    done, text = a_reset(settings, group, {LOG[1]: [(b"a", snapshot())]})
    assert done
    assert group.forgotten == [({LOG[1]: [b"a"]}, {})]
    assert "no position is committed, so it begins at input.start (earliest)" in text


def test_a_reset_brings_an_offset_beyond_the_input_back_to_its_end(settings):
    group = Group({INPUT[0]: position_of(50, 50)}, counts={"events": 1})
    _, text = a_reset(settings, group, {})
    assert group.forgotten == [({}, {INPUT[0]: position_of(20, 20)})]
    assert "goes on at offset 20; offset 50 is committed, the input has 0 to 20" in text


def test_a_reset_changes_nothing_while_the_group_has_members(settings, snapshot):
    for members in ([["pod-1 at 10.0.0.7"]], [[], ["pod-1 at 10.0.0.7"]]):
        group = Group({INPUT[0]: position_of(5, 5)}, members_then=members)
        done, text = a_reset(settings, group, {LOG[0]: [(b"a", snapshot())]})
        assert (done, group.forgotten) == (False, [])
        assert "group 'g' has 1 members: pod-1 at 10.0.0.7; stop them" in text


def test_a_reset_that_is_not_confirmed_changes_nothing(settings, snapshot):
    group = Group({INPUT[0]: position_of(5, 5)})
    done, text = a_reset(settings, group, {LOG[0]: [(b"a", snapshot())]}, confirm=False)
    assert (done, group.forgotten) == (False, [])
    assert text.endswith("nothing was changed")


def test_a_group_without_anything_has_nothing_to_reset(settings):
    group = Group(counts={"events": 2})
    done, text = a_reset(settings, group, {})
    assert (done, group.forgotten) == (True, [])
    assert "nothing to reset" in text


def test_reading_waits_for_a_reader_that_is_not_ready():
    logs = Logs({LOG[0]: [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]}, refusals=3)
    found = list(read_up_to(logs, LOG[0], range(1, 3), float("inf")))
    assert [key for records in found for key in records.keys] == [b"b", b"c"]
    assert not list(read_up_to(logs, LOG[0], range(3, 3), 0.0))


def test_reading_that_takes_too_long_tells_how_far_it_came():
    with pytest.raises(TooSlowError, match="g-events-changelog-0 was read up to offset 0 of 1 in time"):
        list(read_up_to(Logs({LOG[0]: [(b"a", b"1")]}, refusals=10**9), LOG[0], range(1), 0.0))


def test_a_question_is_asked_again_until_the_time_is_over():
    answers = [NotNowError("later"), NotNowError("later"), 7]

    def ask():
        answer = answers.pop(0)
        if isinstance(answer, NotNowError):
            raise answer
        return answer

    assert patiently(ask, float("inf")) == 7
    answers.append(NotNowError("later"))
    with pytest.raises(NotNowError):
        patiently(ask, 0.0)
