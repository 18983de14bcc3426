"""Two versions of a model in one group: nothing lost, nothing twice, and never a state of one in the other."""

import random
from dataclasses import replace

import pytest

from streamer.core.events import Partition
from streamer.errors import StateError
from tests.simulation.actions import Action, Compact, Feed, Kill, Start, Turn, Wait
from tests.simulation.handover import check, watch
from tests.simulation.schedule import schedule
from tests.simulation.world import PATIENCE, Setup, World

TWO = Setup(watched=False, names=("p0", "p1"), newer=("p1",), evict=False, max_streams=50, snapshot_share=1.0)
FAULTS = {"stop": 1.5, "kill": 1.5, "start": 3, "put_out": 0.7, "rebalance": 1.0, "retain": 0, "bad": 0}


def heal(world: World) -> None:
    """Only one process runs on, until all is committed."""
    world.healing = True
    for process in world.processes:
        if process is not None:
            process.armed.clear()
            process.client.outcome = ""
    for _ in range(PATIENCE):
        for index in range(2):
            world.start(index)
            world.turn(index)
        world.elapse(0.5)
        committed = {p: at.offset for p, at in world.broker.positions.items()}
        if not world.broker.transactions and all(
            committed.get(p, 0) > (entries[-1].offset if entries else -1) for p, entries in world.oracle.history.items()
        ):
            return
    raise AssertionError(f"nothing moves any more: {world.broker.positions}")


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("seed", range(40))
def test_forecasts_follow_from_the_input_and_the_turns_whatever_crashes(seed, steps, monkeypatch):
    if seed % 2:  # one snapshot at a time
        monkeypatch.setattr("streamer.checkpoint.BOUNDARY_BYTES", 1)
        monkeypatch.setattr("streamer.checkpoint.SHARE_BYTES", 1)
    setup = replace(TWO, warm_from_input_steps=steps, partitions=1 + seed % 2, snapshot_interval_seconds=1 + seed % 3)
    world = World(setup)
    turns = watch(world)
    world.run(schedule(random.Random(seed), FAULTS, setup, 150))
    heal(world)
    check(world, turns)
    assert not [problem for problem in world.ended if isinstance(problem, StateError)]


ONE = replace(TWO, partitions=1, snapshot_interval_seconds=50)
CHANGELOG = Partition("group-events-changelog", 0)
A, B = Feed(0, "a"), Feed(0, "b")
NEWER = (Kill(0), Wait(40), Start(1))
STEPS = (A, B, Turn(0, 6), A, B, A, B)  # three of each, two of them not in a snapshot


def changed(*before: Action, steps: int, setup: Setup = ONE) -> World:
    """The older version has served some events, and the newer one has started."""
    world = World(replace(setup, warm_from_input_steps=steps))
    world.run([Start(0), Turn(0, 8), *before, Turn(0, 6), *NEWER])
    return world


def ages(world: World) -> dict[str, int]:
    process = world.processes[1]
    assert process is not None, world.ended
    assert process.daemon.ready()[0]
    arena = process.engine.arena
    rows = process.engine.rows(world.inputs[0]).tolist()
    return {arena.stream[row]: int(arena.age[row]) for row in rows}


def count(world: World, name: str, **labels: str) -> float | None:
    process = world.processes[1]
    assert process is not None
    return process.metrics.registry.get_sample_value(name, labels)


@pytest.mark.parametrize(("steps", "age"), [(0, None), (1, 1), (2, 2), (3, 3), (50, 3)])
def test_a_new_model_finds_its_streams_as_many_steps_old_as_it_is_told_to_go_back(steps, age):
    world = changed(*STEPS, steps=steps)
    world.run([Turn(1, 16)])
    assert ages(world) == ({} if age is None else {"a": age, "b": age})
    rebuilt, fresh = (0, 2) if age is None else (2, 0)
    assert count(world, "streamer_streams_rebuilt_total") == rebuilt
    assert count(world, "streamer_state_resets_total", reason="other_model") == fresh
    assert count(world, "streamer_forecasts_published_total") == 0


def test_a_stream_without_an_event_so_far_back_is_forgotten_and_counted():
    world = changed(A, B, B, B, B, B, steps=2)
    world.run([Turn(1, 16), Wait(1), Turn(1, 5)])
    assert ages(world) == {"b": 4}
    changelog = [(e.key, e.value) for e in world.broker.log(CHANGELOG).entries if not e.is_marker]
    assert changelog[-1] == (b"a", None)
    assert count(world, "streamer_state_resets_total", reason="other_model") == 1
    assert count(world, "streamer_streams_rebuilt_total") == 1


def test_input_that_retention_deleted_is_not_missed():
    world = changed(*STEPS, steps=3)
    world.broker.log(world.inputs[0]).retain(4)
    world.run([Turn(1, 16)])
    assert ages(world) == {"a": 1, "b": 1}


def test_retention_that_overtakes_the_building_begins_it_again():
    world = changed(*STEPS, steps=3, setup=replace(ONE, records_per_read=1))
    process = world.processes[1]
    assert process is not None
    world.run([Turn(1, 6)])
    world.broker.log(world.inputs[0]).retain(5)
    world.run([Turn(1, 30)])
    assert ages(world) == {"b": 1}


def test_restored_streams_beyond_max_streams_are_built_all_the_same():
    world = changed(*STEPS, steps=3)
    process = world.processes[1]
    assert process is not None
    process.engine.arena.max_streams = 1
    world.run([Turn(1, 16), Feed(0, "c"), Turn(1, 4)])
    assert ages(world) == {"a": 3, "b": 3}


def test_nothing_is_forecast_before_everything_built_is_saved():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamer.checkpoint.BOUNDARY_BYTES", 1)
        saved_before_any_forecast()


def saved_before_any_forecast() -> None:
    world = World(replace(ONE, warm_from_input_steps=3))
    turns = watch(world)
    world.run([Start(0), Turn(0, 8), *STEPS, Turn(0, 6), *NEWER, Turn(1, 5), A, B, A])
    process = world.processes[1]
    assert process is not None
    while not process.daemon.ready()[0]:
        world.run([Turn(1)])
    assert count(world, "streamer_forecasts_published_total") == 0
    assert count(world, "streamer_snapshots_written_total") == 2
    world.run([Turn(1, 6), Wait(5)])
    check(world, turns)
    assert count(world, "streamer_forecasts_published_total") == 3


def test_the_older_version_that_comes_back_finds_its_own_states_unless_events_were_served_meanwhile():
    world = changed(A, B, B, B, steps=0)
    world.run([Turn(1, 16), B, Turn(1, 5), Kill(1), Wait(40), Start(0), Turn(0, 16)])
    process = world.processes[0]
    assert process is not None
    arena = process.engine.arena
    assert {arena.stream[r]: int(arena.age[r]) for r in process.engine.rows(world.inputs[0]).tolist()} == {"a": 1}


def test_compaction_while_streams_are_built_changes_nothing(monkeypatch):
    monkeypatch.setattr("streamer.checkpoint.BOUNDARY_BYTES", 1)
    world = changed(*STEPS, steps=3)
    world.run([Turn(1, 6), Compact(0), Turn(1, 4), Kill(1), Wait(40), Compact(0), Start(1), Turn(1, 24)])
    assert ages(world) == {"a": 3, "b": 3}
