"""The daemon's life without a broker: what is committed, when, and what a rebalance or a signal changes."""

import threading
from dataclasses import dataclass, replace
from typing import Any

import pytest

from streamer.committer import on_another_thread
from streamer.core.events import Partition, Records
from streamer.daemon import HEALTHY_SECONDS
from streamer.delivery import FencedError, NotAMemberError, NotNowError, Rebalance
from streamer.errors import StateError
from streamer.tasks import Phase, Task
from tests.simulation.actions import Action, At, Bad, Fail, Feed, Gap, PutOut, Start, Stop, Turn, Unknown, Wait
from tests.simulation.actions import Rebalance as Anew
from tests.simulation.client import FAR
from tests.simulation.kafka import Transaction, is_visible
from tests.simulation.model import POISON
from tests.simulation.oracle import DEAD, FORECASTS
from tests.simulation.world import Process, Setup, World

EVENTS = Partition("events", 0)
ONE = Setup(partitions=1, records_per_poll=100, snapshot_share=1.0)
LIVE = (Start(0), Turn(0, 8))
A, B = Feed(0, "a"), Feed(0, "b")


def live(*actions: Action, setup: Setup = ONE) -> tuple[World, Process]:
    """One process that serves, after these actions."""
    world = World(setup)
    world.run([*LIVE, *actions])
    process = world.processes[0]
    assert process is not None
    return world, process


def count(process: Process, name: str, **labels: str) -> float | None:
    return process.metrics.registry.get_sample_value(name, labels)


def visible(world: World, topic: str, number: int = 0) -> list[tuple[bytes | None, bytes | None]]:
    return world.oracle.visible(Partition(topic, number))


@dataclass(frozen=True)
class Signal(Action):
    """SIGTERM, noticed at the end of the turn."""

    process: int

    def happen(self, world: World) -> None:
        process = world.processes[self.process]
        assert process is not None
        process.stop.set()


def test_every_accepted_event_is_forecast_and_its_position_committed_with_it():
    world, process = live(A, B, Turn(0, 3), Wait(9))
    assert world.broker.positions[EVENTS].offset == 2
    assert [key for key, _ in visible(world, FORECASTS)] == [b"a", b"b"]
    assert world.oracle.commits == 1
    assert count(process, "streamer_transactions_total", result="committed") == 1


def test_forecasts_go_to_the_events_own_partition():
    world, _ = live(A, Feed(1, "a"), Turn(0, 3), setup=replace(ONE, partitions=2))
    assert [len(visible(world, FORECASTS, number)) for number in (0, 1)] == [1, 1]


def test_an_id_in_two_partitions_is_two_streams_and_counted():
    _, process = live(A, B, Feed(1, "a"), Turn(0, 3), A, Feed(1, "a"), Turn(0, 3), setup=replace(ONE, partitions=2))
    assert count(process, "streamer_active_streams") == 3
    assert count(process, "streamer_streams_split_total") == 1


def test_events_of_one_commit_interval_are_committed_together():
    world, _ = live(A, Turn(0), B, Turn(0), B, Turn(0, 3))
    assert world.oracle.commits == 1
    world.run([A, Turn(0, 3)])
    assert world.oracle.commits == 2


def test_a_backlog_is_committed_before_the_interval_is_over(monkeypatch):
    monkeypatch.setattr("streamer.daemon.MAX_PENDING_BYTES", 300)
    world, _ = live(*[A] * 3, Turn(0, 2))
    assert world.oracle.commits == 1


def test_records_that_end_long_gaps_are_read_in_smaller_batches_until_the_gaps_are_over(monkeypatch):
    monkeypatch.setattr("streamer.batches.MAX_BATCH_STEPS", 3)
    world, process = live(A, Turn(0), Feed(0, "a", ahead=3), Turn(0), *[A] * 5)
    consumed = []
    for _ in range(4):
        world.run([Turn(0)])
        consumed.append(count(process, "streamer_records_consumed_total"))
    assert consumed == [2 + 1, 3 + 2, 5, 5 + 2]  # one turn begins a transaction


def due(turns: int) -> list[Action]:
    """So many events, each advanced while the one before is committed, and the last one's commit due."""
    return [A, Turn(0), Wait(0.2), *[A, Turn(0, 2), Wait(0.2)] * (turns - 1)]


@pytest.mark.parametrize("turns", [1, 2])  # the simulation lets now the batch, now the transaction be first
def test_what_is_read_meanwhile_is_in_the_next_transaction(turns):
    world, process = live(*due(turns), B, Turn(0, 2))
    assert process.attempts == turns
    assert [key for key, _ in visible(world, FORECASTS)] == [b"a"] * turns
    world.run([Turn(0, 3)])
    assert [key for key, _ in visible(world, FORECASTS)] == [b"a"] * turns + [b"b"]


@pytest.mark.parametrize("turns", [1, 2])
def test_a_transaction_that_fails_while_a_batch_is_advanced_goes_again_as_it_was(turns):
    fails = At(0, "commit", (Fail(0),))
    world, process = live(*due(turns), fails, B, Turn(0, 2))
    assert [key for key, _ in visible(world, FORECASTS)] == [b"a"] * turns
    assert count(process, "streamer_transactions_total", result="aborted") == 1


READ_ONE = replace(ONE, records_per_poll=1)
BACKLOG = replace(READ_ONE, backlog=True)


@pytest.mark.parametrize(("setup", "consumed"), [(READ_ONE, 2), (BACKLOG, 3)])
def test_with_a_backlog_a_batch_more_is_advanced_until_brokers_have_answered(setup, consumed):
    world, process = live(*[A] * 9, Turn(0), Wait(0.2), Turn(0), setup=setup)  # a transaction is on its way
    assert count(process, "streamer_records_consumed_total") == 1
    while not world.oracle.commits:
        world.run([Turn(0)])
        assert process.metrics.process.seconds_since_turn() == 0
    assert process.metrics.process.seconds_since_progress() == 0
    assert count(process, "streamer_records_consumed_total") == consumed
    assert len(visible(world, FORECASTS)) == 1


def test_a_transaction_that_has_ended_is_not_kept_waiting_by_what_was_read_ahead():
    world, process = live(*[A] * 9, Turn(0), Wait(0.2), Turn(0), setup=BACKLOG)
    process.last_attempt.end()
    world.run([Turn(0)])
    assert count(process, "streamer_forecasts_published_total") == 1
    assert count(process, "streamer_records_consumed_total") == 1
    lag = count(process, "streamer_consumer_lag_records", topic="events", partition="0")
    assert lag == 6 * FAR + 2  # what was read ahead lags, too


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_signal_while_a_transaction_is_on_its_way_lets_it_end(has_ended):
    world, process = live(*[A] * 9, Turn(0), Wait(0.2), Turn(0), setup=BACKLOG)
    if has_ended:
        process.last_attempt.end()
    world.run([Stop(0)])
    assert len(visible(world, FORECASTS)) == 1
    assert count(process, "streamer_forecasts_published_total") == 1
    assert count(process, "streamer_transactions_total", result="committed") == world.oracle.commits


def test_what_waits_for_brokers_is_bounded_also_while_they_answer(monkeypatch):
    world, process = live(*[A] * 9, Turn(0), Wait(0.2), Turn(0), setup=BACKLOG)
    monkeypatch.setattr("streamer.daemon.MAX_PENDING_BYTES", 0)
    world.run([Turn(0)])
    assert world.oracle.commits == 1
    assert count(process, "streamer_records_consumed_total") == 1


def test_what_was_read_ahead_of_a_partition_that_goes_is_left_to_its_new_owner():
    both = [A, Feed(1, "b")] * 9
    world, process = live(*both, Turn(0), Start(1), Turn(1, 3), setup=replace(BACKLOG, partitions=2))
    while len(process.client.owned) == 2:
        world.run([Wait(0.2), Turn(0), Turn(1)])
    world.heal()
    assert [len(visible(world, FORECASTS, number)) for number in (0, 1)] == [9, 9]


def test_a_client_is_not_closed_under_an_attempt(monkeypatch):
    """Whatever else fails meanwhile."""
    _, process = live(A, Turn(0), Wait(0.2), B)
    ended = []
    transact, close = process.client.transact, process.client.close
    monkeypatch.setattr(process.client, "transact", lambda *given: (transact(*given), ended.append("transaction")))
    monkeypatch.setattr(process.client, "close", lambda: (close(), ended.append("closed")))
    monkeypatch.setattr(process.daemon, "start", lambda: None)
    monkeypatch.setattr(process.engine, "advance", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        process.daemon.run(process.stop)
    assert ended == ["transaction", "closed"]


def test_an_attempt_on_another_thread_gives_its_result_or_its_error():
    here = threading.current_thread()

    def attempt():
        assert threading.current_thread() is not here
        return [], 0.5

    def refused():
        raise FencedError("a successor")

    assert on_another_thread(attempt).result() == ([], 0.5)
    with pytest.raises(FencedError, match="a successor"):
        on_another_thread(refused).result()


def test_an_idle_daemon_commits_nothing():
    world, _ = live(Turn(0, 20), Wait(60), Turn(0, 20))
    assert world.oracle.commits == 0


def test_dirty_streams_are_snapshotted_when_the_input_is_idle_until_a_restart_replays_nothing():
    patient = replace(ONE, snapshot_interval_seconds=5)
    world, process = live(A, B, Turn(0, 4), A, B, Turn(0, 4), Wait(0.9), Turn(0), setup=patient)
    partition = {"topic": "events", "partition": "0"}
    assert count(process, "streamer_dirty_streams") == 2
    assert count(process, "streamer_low_water_distance_records", **partition) == 2
    world.run([Wait(6), Turn(0, 2), Wait(9), Turn(0)])
    assert world.broker.positions[EVENTS].metadata == "tc1;lwm=4"
    assert count(process, "streamer_dirty_streams") == 0
    assert count(process, "streamer_low_water_distance_records", **partition) == 0
    assert count(process, "streamer_snapshots_written_total") == 4


def test_a_member_that_nothing_is_left_for_is_ready_once_the_group_has_taken_it_in():
    world, _ = live(Start(1), Turn(1))
    idle = world.processes[1]
    assert idle is not None
    assert not idle.daemon.ready()[0]
    world.run([Turn(0), Turn(1), Turn(0), Turn(1)])
    assert idle.client.is_member()
    assert not idle.daemon.ready()[0]  # what others are to give back may come with the next assignment
    world.run([Wait(11), Turn(0), Turn(1)])
    assert idle.daemon.ready() == (True, "0 partitions assigned, 0 being restored")


def test_revoked_partitions_are_committed_before_they_go_and_their_streams_forgotten():
    two = replace(ONE, partitions=2)
    world, process = live(A, Feed(1, "a"), Turn(0), Start(1), Turn(1), Turn(0), setup=two)
    assert world.oracle.commits == 1
    world.run([Turn(1, 2), Turn(0)])
    assert count(process, "streamer_assigned_partitions") == 1
    assert count(process, "streamer_active_streams") == 1
    assert count(process, "streamer_rebalances_total") == 2
    assert process.settlings == 2  # both restored; one gone


def test_what_was_read_when_the_signal_came_is_committed_with_all_dirty_streams():
    world, _ = live(A, Turn(0, 4), A, Turn(0))
    world.run([Stop(0), Wait(9)])
    assert len(visible(world, FORECASTS)) == 2
    assert world.broker.positions[EVENTS].metadata == "tc1;lwm=2"


def test_a_run_ends_with_its_last_transaction_and_leaves_the_group():
    world = World(ONE)
    world.run([A])
    process = world.processes[0] = Process(world, "p0", [])
    process.armed.append(At(0, "committed", (A, Signal(0))))
    process.daemon.run(process.stop)
    assert process.client.closed
    assert world.oracle.commits == 1
    world.run([Start(1), Wait(9)])
    world.processes[0] = None
    world.heal()
    assert len(visible(world, FORECASTS)) == 2


def test_a_process_that_is_shut_out_counts_it_and_ends():
    world = World(replace(ONE, names=("p0", "p0")))
    world.run([A])
    process = world.processes[0] = Process(world, "p0", [])
    process.armed.append(At(0, "commit", (Start(1),)))
    with pytest.raises(FencedError, match="successor"):
        process.daemon.run(process.stop)
    assert process.client.closed
    assert count(process, "streamer_fencings_total") == 1


def test_a_drain_gives_up_when_its_outcome_stays_open(caplog):
    caplog.set_level("INFO", logger="streamer")
    world, _ = live(A, Turn(0))
    silence = [At(0, "recover", (Fail(0),)) for _ in range(400)]
    world.run([At(0, "commit", (Unknown(0, "lost"),)), *silence, Stop(0)])
    assert any("event=drain_cut_short" in line for line in caplog.messages)
    world.heal()
    assert len(visible(world, FORECASTS)) == 1


def test_a_signal_while_a_transaction_finds_no_brokers_ends_the_run_in_time_and_loses_nothing(caplog):
    world = World(ONE)
    world.run([A])
    process = world.processes[0] = Process(world, "p0", [])
    process.armed += [At(0, "commit", (Unknown(0, "lost"), Signal(0)))]
    process.armed += [At(0, "recover", (Fail(0),)) for _ in range(400)]
    process.daemon.run(process.stop)
    assert process.client.closed
    assert any("event=drain_cut_short" in line for line in caplog.messages)
    assert world.now < 30
    world.processes[0] = None
    world.run([Wait(40)])
    world.heal()
    assert len(visible(world, FORECASTS)) == 1


def test_a_transaction_that_fails_again_and_again_is_no_progress_but_the_loop_turns():
    world, process = live(A, Turn(0))
    progress: list[float | None] = []

    class Look(Action):
        def happen(self, _: World) -> None:
            progress.append(count(process, "streamer_since_progress_seconds"))
            assert process.daemon.healthy()[0]
            assert process.metrics.process.seconds_since_turn() < 2

    failing = [At(0, "produce", (Fail(0), Wait(0.9), Look())) for _ in range(80)]
    world.run([*failing, Turn(0, 3)])
    assert progress[-1] > 60
    assert count(process, "streamer_since_progress_seconds") < 1


@pytest.mark.parametrize("answers", [True, False])
def test_a_process_that_its_group_refuses_for_long_ends_unless_the_brokers_are_away(answers, monkeypatch):
    world, process = live(A, Turn(0))
    transact = process.client.transact

    def refuse(*given: Any) -> None:
        world.now += 10
        if world.now > 1000:
            return transact(*given)
        raise NotAMemberError("as told")

    def silent(*_: object) -> None:
        raise NotNowError("as told")

    monkeypatch.setattr(process.client, "transact", refuse)
    if not answers:
        monkeypatch.setattr(process.client, "committed", silent)
    world.run([Turn(0, 3)])
    assert [str(problem) for problem in world.ended if "as told" in str(problem)] == [str(p) for p in world.ended]
    assert (len(world.ended), world.now > 1000) == ((1, False) if answers else (0, True))


def test_a_restore_that_brokers_do_not_let_on_is_no_progress():
    world = World(ONE)
    world.run([Start(0), Turn(0), *[At(0, "fetch", (Fail(0), Wait(5))) for _ in range(9)], Turn(0, 8)])
    process = world.processes[0]
    assert process is not None
    assert process.metrics.process.seconds_since_progress() > 35
    assert process.metrics.process.seconds_since_turn() == 0


def test_a_changelog_that_cannot_be_read_on_keeps_no_other_partition_waiting_and_is_no_progress(caplog):
    world = World(replace(ONE, partitions=2, watched=False))
    world.run([*LIVE, Turn(0, 8), A, Feed(1, "b"), Turn(0, 4), Stop(0), Wait(40)])
    world.broker.log(Partition("group-events-changelog", 0)).append(Transaction("hangs", world.now), b"x", None)
    world.run([Start(0), *[Turn(0), Wait(1.0)] * 60, Feed(1, "b"), Turn(0, 4), *[Turn(0), Wait(1.0)] * 60])
    process = world.processes[0]
    assert process is not None
    assert process.daemon.ready() == (False, "2 partitions assigned, 1 being restored")
    assert len(visible(world, FORECASTS, 1)) == 2
    assert process.metrics.process.seconds_since_progress() > 50
    assert sum("event=restore_set_aside partition=events-0" in line for line in caplog.messages) == 1


def test_a_member_that_the_group_does_not_take_in_makes_no_progress():
    world = World(ONE)
    world.run([Start(0)])
    world.broker.group.enter()  # members that never join: no round comes to its end
    process = world.processes[0]
    assert process is not None
    for _ in range(60):
        world.run([Turn(0), Wait(5.0)])
        if len(world.broker.group.members) < 2:
            world.broker.group.enter()
    assert process.metrics.process.seconds_since_progress() > 240
    for member in set(world.broker.group.members) - {process.client.member}:
        world.broker.group.put_out(member)
    world.run([Turn(0, 12)])
    assert process.metrics.process.seconds_since_progress() == 0


def test_a_member_with_nothing_assigned_has_nothing_to_do():
    world, _ = live(Start(1), *[Turn(1), Turn(0)] * 4, *[Turn(0), Turn(1), Wait(5.0)] * 60, Turn(1))
    idle = world.processes[1]
    assert idle is not None
    assert idle.client.owned == set()
    assert idle.metrics.process.seconds_since_progress() == 0


def test_input_deleted_while_it_is_read_is_counted_and_said_once_and_missing_offsets_are_not(caplog):
    few = replace(ONE, records_per_poll=2, watched=False)
    gaps = [Gap(0), A, Gap(0), Gap(0), A, A]
    world, process = live(*gaps, Turn(0, 9), Wait(9), Turn(0, 2), setup=few)
    assert count(process, "streamer_input_lost_records_total") == 0
    for _ in range(2):
        world.run([A] * 5)  # from 6 to 10, and from 11 to 15
        log = world.broker.log(EVENTS)
        log.retain(log.end - 2)
        world.run([Turn(0, 9), Wait(9), Turn(0, 2)])
    assert count(process, "streamer_input_lost_records_total") == 6
    lines = [line for line in caplog.messages if "event=input_overtaken" in line]
    assert lines == ["event=input_overtaken partition=events-0 lost=3 begins=9"]
    assert world.broker.positions[EVENTS].offset == 16


BAD = [Bad(0), Feed(0, "a", 1), Feed(0, "a", 0), Bad(0, b"{}")]


def test_rejected_records_become_dead_letters_with_their_bytes_and_reason():
    world, process = live(*BAD, Turn(0, 3))
    letters = [e for e in world.broker.log(Partition(DEAD, 0)).entries if is_visible(e)]
    assert [(e.key, e.value) for e in letters][::2] == [(b"key", b"nonsense"), (b"key", b"{}")]
    reasons = [dict(e.headers)["__streams.errors.exception"] for e in letters]
    assert reasons == [b"not_json", b"duplicate", b"missing_field"]
    assert count(process, "streamer_dead_letters_published_total") == 3


def test_rejected_records_without_a_dead_letter_topic_are_counted_and_passed():
    world, process = live(Bad(0), Turn(0, 3), Wait(9), setup=replace(ONE, dead_letters="", watched=False))
    assert world.broker.positions[EVENTS].offset == 1
    assert world.broker.log(Partition(DEAD, 0)).end == 0
    assert count(process, "streamer_events_rejected_total", reason="not_json") == 1


def test_the_counts_add_up():
    _, process = live(*BAD, Feed(0, "b"), Turn(0, 3))
    assert count(process, "streamer_records_consumed_total") == 5
    assert count(process, "streamer_events_accepted_total") == 2
    assert count(process, "streamer_forecasts_published_total") == 2
    assert count(process, "streamer_active_streams") == 2


def test_a_stream_that_breaks_again_and_again_is_logged_once(caplog):
    caplog.set_level("INFO", logger="streamer")
    poison = Feed(0, "a", value=POISON)
    _, process = live(*[poison, Turn(0, 3)] * 4)
    assert count(process, "streamer_state_resets_total", reason="not_finite") == 4
    assert sum("event=state_reset" in line for line in caplog.messages) == 1


def test_records_of_a_partition_whose_task_does_not_run_are_dropped(monkeypatch):
    _, process = live()
    task = process.daemon._tasks[EVENTS]
    stale = Records(EVENTS, [0], [-1], [b"k"], [b"{}"])
    monkeypatch.setattr(process.client, "poll", lambda *_: [stale])
    monkeypatch.setattr(process.client, "rebalance", lambda: Rebalance([EVENTS], [EVENTS]))
    process.daemon.turn(process.stop)
    assert count(process, "streamer_records_consumed_total") == 0
    assert task.phase is Phase.CLOSED
    assert not task.is_ours


def test_a_task_cannot_run_before_it_was_restored():
    task = Task(EVENTS, None)  # type: ignore[arg-type]
    with pytest.raises(StateError, match="assigned task cannot become running"):
        task.move(Phase.RUNNING)


def test_it_is_ready_once_its_partitions_are_restored_and_healthy_while_it_turns():
    world = World(ONE)
    world.run([Start(0)])
    process = world.processes[0]
    assert process is not None
    assert not process.daemon.ready()[0]
    world.run([Turn(0)])
    assert process.daemon.ready() == (False, "1 partitions assigned, 1 being restored")
    world.run([Turn(0, 8)])
    assert process.daemon.ready()[0]
    assert process.daemon.healthy()[0]
    world.now += HEALTHY_SECONDS
    assert not process.daemon.healthy()[0]


def test_partitions_are_counted_until_they_are_restored():
    world = World(ONE)
    seen = []
    for action in (Start(0), *[Turn(0)] * 8):
        world.run([action])
        seen.append(count(world.processes[0], "streamer_restoring_partitions"))
    assert 1 in seen
    assert seen[-1] == 0


def test_the_lag_is_what_lies_between_the_position_and_the_end():
    world, process = live(*[A] * 5, Turn(0), setup=replace(ONE, records_per_poll=2))
    assert count(process, "streamer_consumer_lag_records", topic="events", partition="0") == 3
    world.run([PutOut(0), Anew(0), Turn(0)])
    assert count(process, "streamer_consumer_lag_records", topic="events", partition="0") is None
