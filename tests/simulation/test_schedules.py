"""Schedules written by hand: each rule's own failure, which chance seldom finds.

The oracle checks every commit and restore; what a test asserts besides is that its schedule went where it was meant to.
"""

from dataclasses import replace

import pytest

from streamer.core.events import Partition
from streamer.delivery import FencedError
from tests.simulation.actions import (
    Action,
    At,
    Bad,
    Compact,
    Deafen,
    Fail,
    Feed,
    Gap,
    Heartbeat,
    Kill,
    Late,
    PutOut,
    Rebalance,
    Start,
    Stop,
    Turn,
    Unknown,
    Wait,
)
from tests.simulation.client import PLACES
from tests.simulation.kafka import TOMBSTONE_SECONDS
from tests.simulation.oracle import FORECASTS
from tests.simulation.world import Setup, World

ONE = Setup(partitions=1, records_per_poll=9, snapshot_interval_seconds=50, snapshot_share=1.0)
TWO = replace(ONE, partitions=2)
LIVE = (Start(0), Turn(0, 8))
A, B = Feed(0, "a"), Feed(0, "b")
COMMIT = Turn(0, 5)
TAKE_OVER = (PutOut(0), Start(1), Wait(5), Turn(1, 9))  # markers arrive in time, and another process restores
CRASH = (Kill(0), Wait(31), Start(1), Turn(1, 16))


def run(*actions: Action, setup: Setup = ONE) -> World:
    """The schedule after one process is live, and then the end of all faults."""
    world = World(setup)
    world.run([*LIVE, *actions])
    world.heal()
    return world


def ids(world: World, number: int = 0) -> list[int]:
    """Offsets of the events whose forecasts are visible, in order."""
    entries = world.oracle.visible(Partition(FORECASTS, number))
    return [int(value.split(b'"', 4)[3].rsplit(b"-", 1)[1]) for _, value in entries if value]


@pytest.mark.parametrize("place", PLACES)
def test_a_crash_at_any_place_changes_no_forecast(place):
    work = (A, B, Feed(1, "a"), COMMIT, A, Feed(1, "a"), COMMIT, A, At(0, place, (Kill(0),)), Turn(0, 2))
    move = (Start(1), Turn(1, 3), Rebalance(1), Turn(0, 2), Turn(1, 2), Turn(0, 2), Turn(1, 9))
    world = run(*work, *move, A, Turn(1, 5), Start(0), Turn(0, 5), setup=TWO)
    assert ids(world) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("place", ["begin", "produce", "positions", "commit"])
def test_an_aborted_transaction_is_sent_again_as_it_was(place):
    assert ids(run(A, B, COMMIT, A, At(0, place, (Fail(0),)), At(0, place, (Fail(0),)), COMMIT, B, COMMIT)) == [
        0,
        1,
        2,
        3,
    ]


@pytest.mark.parametrize("truth", ["done", "lost", "late"])
@pytest.mark.parametrize("silent", ["fetch", "recover", "hold"])
def test_a_transaction_of_unknown_outcome_is_done_once(truth, silent):
    unknown = At(0, "commit", (Unknown(0, truth),))
    world = run(A, COMMIT, A, B, unknown, At(0, silent, (Fail(0),)), At(0, "hold", (Late(0),)), COMMIT, A, COMMIT)
    assert ids(world) == [0, 1, 2, 3]


def test_a_commit_that_arrives_after_a_successor_began_is_refused():
    world = run(A, COMMIT, A, At(0, "commit", (Unknown(0, "late"), At(0, "hold", (Kill(0),)))), COMMIT,
                Start(1), Wait(11), Late(0), Turn(1, 9), Late(0))  # fmt: skip
    assert ids(world) == [0, 1]


@pytest.mark.parametrize("after", [(), CRASH])
@pytest.mark.parametrize("between", [(), (Turn(0, 3),)])
@pytest.mark.parametrize("ahead", [-1, 7])
def test_a_silent_stream_begins_anew_even_at_an_earlier_slot_whether_or_not_its_row_was_freed(ahead, between, after):
    reborn = Feed(0, "a", ahead)
    world = run(A, B, COMMIT, Feed(0, "b", 6), *between, reborn, COMMIT, *after, Feed(0, "a", 7), A)
    assert ids(world) == [0, 1, 2, 3, 4, 5]


ONCE_MORE = (Feed(0, "c"), COMMIT)  # of two transactions, one ends before what is advanced beside it, one after


@pytest.mark.parametrize("before", [(), ONCE_MORE])
def test_a_stream_that_falls_silent_in_the_batch_beside_a_transaction_keeps_its_events(before):
    """The transaction at hand says from where its last event is replayed; its tombstone is another one's business."""
    world = World(ONE)
    world.run([*LIVE, A, B, COMMIT, *before, A, Turn(0), Wait(0.2), Feed(0, "b", 6)])
    process = world.processes[0]
    assert process is not None
    overlapping = process.attempts + 1
    world.run([Turn(0, 2), *CRASH, A, B, Turn(1, 5)])
    world.heal()
    assert process.attempts == overlapping
    assert ids(world) == list(range(6 + len(before) // 2))


def test_what_was_read_ahead_of_a_partition_lost_and_regained_is_read_again():
    """A partition of which nothing is saved is restored in two turns, with what was read ahead still there."""
    world = World(replace(ONE, records_per_poll=1, backlog=True))
    world.run([*LIVE, *[A] * 9, Turn(0), Wait(0.2)])
    process = world.processes[0]
    assert process is not None
    process.attempts = 1  # the next attempt is made at once
    world.run([At(0, "begin", (PutOut(0), Heartbeat(0))), Turn(0, 10)])
    world.heal()
    assert ids(world) == list(range(9))


def test_a_partition_lost_and_regained_with_a_transaction_in_flight_is_not_the_same():
    away = (*TAKE_OVER, A, Turn(1, 5), Stop(1))
    world = run(A, COMMIT, A, At(0, "positions", away), COMMIT, Turn(0, 9), B, COMMIT)
    assert ids(world) == [0, 1, 2, 3]
    assert world.processes[0] is not None


def test_a_partition_lost_with_a_transaction_of_unknown_outcome_is_left_to_its_new_owner():
    away = (Wait(11), *TAKE_OVER, A, Turn(1, 5), Stop(1))
    world = run(A, COMMIT, A, At(0, "commit", (Unknown(0, "lost"), At(0, "hold", away))), COMMIT, Turn(0, 9))
    assert ids(world) == [0, 1, 2]


def test_positions_are_never_sent_without_a_generation():
    away = (*TAKE_OVER, Heartbeat(0))
    assert ids(run(A, COMMIT, A, At(0, "positions", away), COMMIT, A, Turn(1, 5))) == [0, 1, 2]


def test_a_lost_partition_known_before_another_is_asked_back_stays_out_of_its_last_transaction():
    """Lost, joined again and asked to give something back, all in one poll: the loop knows nothing of it yet."""
    both = (A, Feed(1, "a"))
    away = (*TAKE_OVER, Turn(1, 9), Stop(1))
    world = run(*both, COMMIT, *both, Turn(0), At(0, "poll", away), At(0, "assigned", (Start(1), Turn(1))),
                Turn(0), *both, Turn(0, 5), Turn(1, 5), setup=TWO)  # fmt: skip
    assert (ids(world), ids(world, 1)) == ([0, 1, 2], [0, 1, 2])


def test_a_transaction_of_snapshots_only_is_repeated_when_its_outcome_is_unknown():
    late = replace(ONE, snapshot_interval_seconds=2)
    world = run(A, COMMIT, A, COMMIT, Wait(3), At(0, "commit", (Unknown(0, "lost"),)), COMMIT, B, COMMIT, setup=late)
    assert ids(world) == [0, 1, 2]


def test_the_outcome_of_two_partitions_is_not_judged_by_the_one_that_was_lost():
    both = (A, Feed(1, "a"))
    # asked to give partition 1 back while it cannot be learned what became of the transaction
    silence = At(0, "recover", (Fail(0),))
    give_back = (Start(1), Turn(1), silence, silence, At(0, "hold", (Turn(1), Wait(11), Wait(5), Turn(1, 16))))
    world = run(*both, COMMIT, *both, At(0, "commit", (Unknown(0, "lost"), At(0, "hold", give_back))), COMMIT,
                *both, COMMIT, setup=TWO)  # fmt: skip
    assert (ids(world), ids(world, 1)) == ([0, 1, 2], [0, 1, 2])


def test_a_restore_waits_for_snapshots_whose_marker_is_late():
    slow = replace(ONE, slow={"group-events-changelog": 60.0})
    world = World(slow)
    world.run([*LIVE, A, At(0, "committed", (Kill(0),)), COMMIT, Wait(8), Start(1), Wait(31), Turn(1, 20)])
    process = world.processes[1]
    assert process is not None
    assert not process.daemon.ready()[0]
    world.run([Wait(60), Turn(1, 5)])
    assert process.daemon.ready()[0]
    world.run([A])
    world.heal()
    assert ids(world) == [0, 1]


def test_a_restore_waits_for_positions_whose_marker_is_late():
    slow = replace(ONE, slow={"__consumer_offsets": 60.0})
    again = (Start(1), Turn(1, 20))
    world = run(A, COMMIT, Wait(70), A, At(0, "committed", (Kill(0),)), COMMIT, Wait(31), *again, B, *again, setup=slow)
    assert ids(world) == [0, 1, 2]


def test_replay_begins_no_stream_that_was_forgotten():
    world = run(A, B, COMMIT, B, A, *[B] * 6, Turn(0, 6), *CRASH, A, Turn(1, 5))
    assert ids(world) == list(range(11))


def test_replay_leaves_out_what_the_snapshot_of_a_rebirth_covers():
    world = run(A, B, COMMIT, B, A, A, Feed(0, "b", 8), Turn(0, 5), Feed(0, "a", -1), COMMIT, *CRASH, A, B)
    assert ids(world) == list(range(9))


def test_a_partition_lost_between_its_position_and_its_snapshots_is_restored_again():
    away = (PutOut(1), Deafen(1, 9), Start(0), Wait(9), Turn(0, 16), B, Turn(0, 5), Wait(9))
    world = run(A, COMMIT, Kill(0), Wait(31), Start(1), At(1, "end", away), Turn(1, 9), setup=ONE)
    assert ids(world) == [0, 1]


def test_a_tombstone_cleaned_during_a_restore_brings_no_stream_back():
    clean = (Compact(0), Wait(TOMBSTONE_SECONDS + 1), Compact(0))
    slow = replace(ONE, records_per_read=1)
    world = run(A, COMMIT, Feed(0, "b", 6), COMMIT, Kill(0), Wait(31), Start(1), Turn(1, 3), *clean, Turn(1, 12), B,
                setup=slow)  # fmt: skip
    assert ids(world) == [0, 1, 2]


@pytest.mark.parametrize("place", ["begin", "produce", "positions", "commit"])
def test_a_successor_of_the_same_name_shuts_the_zombie_out(place):
    twins = replace(ONE, names=("p0", "p0"))
    world = run(A, COMMIT, A, At(0, place, (Start(1), Turn(1), Wait(9), Turn(1, 9))), Turn(0, 5), setup=twins)
    assert ids(world) == [0, 1]
    assert [type(e) for e in world.ended] == [FencedError]


STATIC = replace(ONE, names=("p0", "p0"), static=True)


@pytest.mark.parametrize("place", ["begin", "produce", "positions", "commit"])
def test_a_member_of_a_fixed_name_that_was_too_slow_goes_on_while_the_name_is_its_own(place):
    world = run(A, COMMIT, A, At(0, place, (Wait(11),)), COMMIT, A, COMMIT, setup=replace(STATIC, names=("p0",)))
    assert ids(world) == [0, 1, 2]
    assert world.ended == []


@pytest.mark.parametrize("joins", [(Turn(1),), (), (Turn(1), Wait(9), Turn(1, 9))])
@pytest.mark.parametrize("place", ["begin", "produce", "positions", "commit", "hold", "recover", "fetch", "poll"])
def test_a_member_whose_fixed_name_another_takes_ends_and_the_other_goes_on(place, joins):
    """In each place the successor has only begun to produce, or joined as well, or serves already."""
    slow = At(0, "commit", (Unknown(0, "lost"),)) if place in ("hold", "recover", "fetch") else Wait(0)
    world = run(A, COMMIT, A, slow, At(0, place, (Start(1), *joins)), Turn(0, 2), Turn(1, 3), Turn(0, 3), Wait(9),
                Turn(1, 9), B, Turn(1, 9), setup=STATIC)  # fmt: skip
    assert ids(world) == [0, 1, 2]
    assert {type(e) for e in world.ended} == {FencedError}
    assert world.processes[0] is None
    assert world.processes[1] is not None


def test_offsets_without_records_and_records_that_are_no_events_are_passed():
    world = run(Gap(0), A, Bad(0), Gap(0), COMMIT, Gap(0), Kill(0), Start(1), Turn(1, 9), B, Bad(0), Turn(1, 5))
    assert ids(world) == [1, 5]
