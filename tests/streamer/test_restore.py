"""Restores whose facts do not fit: what is said, what starts fresh, and what is never mixed."""

import json
from dataclasses import replace
from threading import Event

import pytest

from streamer.checkpoint import position_of
from streamer.core.engine import Engine
from streamer.core.events import Partition, Records
from streamer.core.snapshot import SnapshotFormat
from streamer.core.timegrid import Ints
from streamer.delivery import Position
from streamer.errors import StateError
from streamer.questions import ask_beside
from tests.integration.waiting import eventually
from tests.simulation.actions import Action, At, Fail, Feed, Kill, Start, Turn, Wait
from tests.simulation.client import SimClient, SimReader
from tests.simulation.oracle import FORECASTS, FORMAT, OTHER_FORMAT
from tests.simulation.world import Process, Setup, World

EVENTS, CHANGELOG = Partition("events", 0), Partition("group-events-changelog", 0)
ONE = Setup(partitions=1, records_per_poll=100, snapshot_interval_seconds=50, snapshot_share=1.0, watched=False)
A, B = Feed(0, "a"), Feed(0, "b")
WORK = (Start(0), Turn(0, 8), A, B, Turn(0, 4), A, Turn(0, 4), Kill(0), Wait(40))  # a's second event is to be replayed
AGAIN = (Start(1), Turn(1, 12))


@pytest.fixture(autouse=True, params=[1, 20_000], ids=["in pieces", "at once"])
def piece(request, monkeypatch):
    """Streams that a slice deals with."""
    monkeypatch.setattr("streamer.unusable.PIECE", request.param)


def after(*actions: Action) -> World:
    world = World(ONE)
    world.run([*WORK, *actions])
    return world


def restored(world: World) -> Process:
    world.run(AGAIN)
    process = world.processes[1]
    assert process is not None, world.ended
    assert process.daemon.ready()[0]
    return process


def refusal(world: World) -> str:
    world.run(AGAIN)
    (problem,) = world.ended
    assert isinstance(problem, StateError)
    return str(problem)


def write(world: World, key: bytes, value: bytes | None) -> None:
    """A record of somebody else's in the changelog."""
    world.broker.log(CHANGELOG).append(None, key, value)


def last(world: World, stream: str) -> dict[str, object]:
    found = [value for key, value in world.oracle.visible(Partition(FORECASTS, 0)) if key == stream.encode() and value]
    return json.loads(found[-1])


def states(process: Process) -> dict[str, int]:
    """Streams and their ages."""
    arena = process.engine.arena
    return {arena.stream[row]: int(arena.age[row]) for row in process.engine.rows(EVENTS).tolist()}


def unused(process: Process, reason: str) -> float | None:
    return process.metrics.registry.get_sample_value("streamer_state_resets_total", {"reason": reason})


def snapshot(world: World, stream: bytes, format_: SnapshotFormat = FORMAT, covers: int | None = None) -> bytes:
    """The stream's last snapshot, as another model's, or as if it covered more."""
    value = [e.value for e in world.broker.log(CHANGELOG).entries if e.key == stream and e.value][-1]
    found, _ = FORMAT.decode([value])
    if covers is not None:
        found.covers[:] = covers
    return format_.encode(found)[0]


def test_a_restart_goes_on_where_the_group_has_committed():
    world = after()
    assert states(restored(world)) == {"a": 2, "b": 1}


def test_a_corrupt_snapshot_starts_its_stream_fresh_and_hurts_no_other(caplog):
    world = after()
    write(world, b"b", snapshot(world, b"b")[:-1] + b"?")
    process = restored(world)
    assert states(process) == {"a": 2}
    assert unused(process, "corrupt") == 1
    lines = [line for line in caplog.messages if "event=snapshots_unused" in line]
    assert lines == ["event=snapshots_unused partition=events-0 reason=corrupt streams=1"]
    world.run([B, Turn(1, 4), Wait(9)])
    assert last(world, "b")["warm"] is False


def test_another_models_snapshots_are_counted_and_their_streams_start_fresh():
    world = after()
    write(world, b"a", snapshot(world, b"a", OTHER_FORMAT))
    write(world, b"b", snapshot(world, b"b", OTHER_FORMAT))
    process = restored(world)
    assert states(process) == {}
    assert unused(process, "other_model") == 2


def test_a_snapshot_is_counted_as_unused_only_when_it_is_its_streams_last():
    world = after()
    own = snapshot(world, b"b")
    for value in (snapshot(world, b"b", OTHER_FORMAT), b"nonsense", own):
        write(world, b"b", value)
    process = restored(world)
    assert states(process) == {"a": 2, "b": 1}
    assert [unused(process, reason) for reason in ("other_model", "corrupt", "input_truncated")] == [0, 0, 0]


def test_an_older_model_that_comes_back_meets_no_state_that_lacks_events():
    """The stream's snapshot is the older model's, and its last event was passed while another model served."""
    world = after()
    old = snapshot(world, b"a")
    write(world, b"a", snapshot(world, b"a", OTHER_FORMAT))
    restored(world)
    world.run([B, Turn(1, 4), Wait(9)])
    tombstones = [e.key for e in world.broker.log(CHANGELOG).entries if e.value is None and not e.is_marker]
    assert tombstones == [b"a"]
    assert old
    world.run([Kill(1), Wait(40), Start(0), Turn(0, 12)])
    process = world.processes[0]
    assert process is not None
    assert states(process) == {"b": 2}


def test_a_stream_that_begins_again_before_its_tombstone_keeps_its_new_snapshot():
    world = after()
    write(world, b"a", b"nonsense")
    world.run([A])
    restored(world)
    world.run([Turn(1, 4), Wait(9), Kill(1), Wait(40), Start(0), Turn(0, 12)])
    process = world.processes[0]
    assert process is not None
    assert states(process) == {"a": 1, "b": 1}


def test_the_low_water_mark_stays_while_tombstones_are_left(monkeypatch):
    monkeypatch.setattr("streamer.checkpoint.MANY", 1)
    world = World(ONE)
    world.run([Start(0), Turn(0, 8), A, B, Turn(0, 4), A, B, Turn(0, 4), Kill(0), Wait(40)])
    for stream in (b"a", b"b"):
        write(world, stream, b"nonsense")
    marks: list[str] = []
    world.broker.on_commit = lambda transaction: marks.append(transaction.positions[EVENTS].metadata)
    restored(world)
    assert marks == ["tc1;lwm=2", "tc1;lwm=4"]


def test_streams_that_rely_on_deleted_input_start_fresh_for_good():
    world = after()
    world.broker.log(EVENTS).retain(3)
    process = restored(world)
    assert states(process) == {}
    assert unused(process, "input_truncated") == 2
    world.run([Turn(1, 4), Wait(9), Kill(1), Wait(40), Start(0), Turn(0, 12)])
    again = world.processes[0]
    assert again is not None
    assert states(again) == {}
    assert unused(again, "input_truncated") == 0


def test_input_deleted_beyond_the_position_hurts_no_stream_when_nothing_is_to_be_replayed():
    world = World(ONE)
    world.run([Start(0), Turn(0, 8), A, B, Turn(0, 4), Kill(0), A, B, Wait(40)])
    world.broker.log(EVENTS).retain(3)
    process = restored(world)
    assert unused(process, "input_truncated") == 0
    world.run([Turn(1, 4), Wait(9)])
    assert states(process) == {"a": 1, "b": 2}


@pytest.mark.parametrize("metadata", ["", "tc2;lwm=1", "tc1;lwm=x"])
def test_a_position_of_somebody_else_stops_the_daemon_with_the_remedy(metadata):
    world = after()
    world.broker.positions[EVENTS] = Position(3, metadata)
    message = refusal(world)
    assert "events-0: offset 3" in message
    assert repr(metadata) in message
    assert "`streamer state reset`" in message


def test_a_position_of_somebody_else_is_where_a_group_without_snapshots_begins():
    world = World(ONE)
    world.run([A, B])
    world.broker.positions[EVENTS] = Position(1, "by hand")
    process = restored(world)
    world.run([Turn(1, 4)])
    assert states(process) == {"b": 1}


def test_a_snapshot_beyond_the_position_stops_the_daemon_with_both_numbers():
    world = after()
    write(world, b"b", snapshot(world, b"b", covers=7))
    message = refusal(world)
    assert "up to offset 7" in message
    assert "has committed 3" in message
    assert "`streamer state reset`" in message


def test_a_position_beyond_the_inputs_end_stops_the_daemon_with_both_numbers():
    world = after()
    world.broker.positions[EVENTS] = position_of(9, 9)
    message = refusal(world)
    assert "committed offset 9" in message
    assert "ends at 3" in message


def test_input_deleted_before_it_was_read_is_counted_and_said_once(caplog):
    world = after(A, A, B, B)
    world.broker.log(EVENTS).retain(5)
    process = restored(world)
    world.run([Turn(1, 12)])
    assert process.metrics.registry.get_sample_value("streamer_input_lost_records_total") == 2
    lines = [line for line in caplog.messages if "event=input_lost" in line]
    assert lines == ["event=input_lost partition=events-0 committed=3 begins=5"]
    assert world.broker.positions[EVENTS].offset == 7


def test_records_that_a_restore_replays_again_are_counted_once():
    world = World(replace(ONE, records_per_read=1))
    world.run([Start(0), Turn(0, 8), A, B, Turn(0, 4), B, B, B, B, Turn(0, 4), Kill(0), Wait(40), Start(1), Turn(1)])
    process = world.processes[1]
    assert process is not None
    while process.last_restore.replayed < 2:
        world.run([Turn(1)])
    world.broker.log(EVENTS).retain(5)  # overtakes the reading, which begins again
    world.run([Turn(1, 20)])
    assert process.daemon.ready()[0]
    assert process.metrics.registry.get_sample_value("streamer_replayed_records_total") == 1


def test_a_restore_feeds_few_steps_in_a_slice_however_many_records_are_read_at_once(monkeypatch):
    monkeypatch.setattr("streamer.batches.FIRST_RECORDS", 1)
    monkeypatch.setattr("streamer.batches.MAX_BATCH_STEPS", 1)
    replay, slices = Engine.replay, []

    def counted(self: Engine, records: Records) -> tuple[Ints, Ints, int]:
        slices.append(len(records))
        return replay(self, records)

    monkeypatch.setattr(Engine, "replay", counted)
    world = World(replace(ONE, records_per_read=100))
    world.run(
        [Start(0), Turn(0, 8), A, B, Turn(0, 4), B, A, B, B, Turn(0, 9), Kill(0), Wait(40), Start(1), Turn(1, 40)]
    )
    process = world.processes[1]
    assert process is not None
    assert states(process) == {"a": 2, "b": 4}
    assert len(slices) > 1
    assert set(slices) == {1}


def test_a_replay_in_many_slices_gets_on_in_each_and_is_not_set_aside_for_another(monkeypatch, caplog):
    monkeypatch.setattr("streamer.batches.FIRST_RECORDS", 1)
    monkeypatch.setattr("streamer.batches.MAX_BATCH_STEPS", 1)
    world = World(replace(ONE, partitions=2, records_per_read=100))
    begun = Start(0), Turn(0, 8), A, Feed(1, "b"), Turn(0, 4)
    world.run([*begun, *[A, Feed(1, "b")] * 6, Turn(0, 20), Kill(0), Wait(40)])
    world.run([Start(1), *[Turn(1), Wait(8)] * 40])
    process = world.processes[1]
    assert process is not None
    assert process.daemon.ready() == (True, "2 partitions assigned, 0 being restored")
    assert process.metrics.registry.get_sample_value("streamer_replayed_records_total") == 12
    assert "restore_set_aside" not in caplog.text


def test_an_older_model_that_comes_back_meets_no_state_whose_events_were_deleted_meanwhile():
    """The last event of the stream is gone before the other model could replay it, and see that the stream has one."""
    world = World(replace(ONE, newer=("p1",)))
    world.run(WORK)
    world.broker.log(EVENTS).retain(3)
    process = restored(world)
    assert states(process) == {}
    world.run([Feed(0, "c"), Turn(1, 4), Wait(9), Kill(1), Wait(40), Start(0), Turn(0, 12)])
    older = world.processes[0]
    assert older is not None
    assert states(older) == {}


@pytest.mark.parametrize("place", ["fetch", "end", "read"])
def test_a_restore_waits_for_brokers_that_do_not_answer(place, caplog):
    caplog.set_level("INFO", logger="streamer")
    world = after(Start(1), At(1, place, (Fail(1),)), At(1, place, (Fail(1),)))
    assert states(restored(world)) == {"a": 2, "b": 1}
    assert sum("event=restore_delayed" in line for line in caplog.messages) == 2


@pytest.mark.parametrize(("kind", "verb"), [(SimClient, "committed"), (SimReader, "end"), (SimReader, "begin")])
def test_a_broker_that_does_not_answer_keeps_no_other_partition_waiting(kind, verb, monkeypatch, caplog):
    """Partition 1 comes back to a process that serves partition 0 meanwhile."""
    caplog.set_level("INFO", logger="streamer")
    answered, ask = Event(), getattr(kind, verb)

    def silent(self: object, about: object) -> object:
        """Of partition 1 and its changelog."""
        (asked,) = about if isinstance(about, list) else [about]
        if asked.number == 1:
            answered.wait(60)
        return ask(self, about)

    two = replace(ONE, partitions=2, ask=lambda: ask_beside)
    world = World(two)
    world.run([Start(0), *[Turn(0)] * 40, A, Feed(1, "b"), Turn(0, 4), Start(1), Turn(1), Turn(0), Turn(1), Turn(0)])
    process = world.processes[0]
    assert process is not None
    monkeypatch.setattr(kind, verb, silent)
    caplog.clear()
    world.run([Kill(1), Wait(40), Turn(0, 4)])
    assert process.daemon.ready() == (False, "2 partitions assigned, 1 being restored")
    world.run([A, Turn(0), Wait(1), Turn(0), Wait(9)])
    assert len(world.oracle.visible(Partition(FORECASTS, 0))) == 2
    assert not any("event=restore_delayed" in line for line in caplog.messages)
    answered.set()
    eventually(lambda: world.run([Turn(0)]) or process.daemon.ready()[0], "partition 1 restored")


def test_a_restore_that_takes_too_long_begins_again_and_says_so(caplog):
    slow = replace(ONE, records_per_read=1)
    world = World(slow)
    world.run([*WORK, Start(1), Turn(1, 3), Wait(3601)])
    assert states(restored(world)) == {"a": 2, "b": 1}
    assert any("event=restore_begun_again" in line for line in caplog.messages)
