"""The tests can fail: each rule, broken in the real code, is noticed by the schedule that is named beside it."""

from collections.abc import Callable

import pytest

from streamer.delivery import FencedError
from tests.simulation import mutants, test_handover, test_schedules
from tests.simulation.actions import Turn
from tests.simulation.kafka import TimedOutError

NOTICED: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[..., None], tuple[object, ...]]] = [
    (mutants.end_is_the_last_stable_offset,
     test_schedules.test_a_restore_waits_for_snapshots_whose_marker_is_late, ()),
    (mutants.the_changelog_is_read_uncommitted,
     test_schedules.test_a_restore_waits_for_snapshots_whose_marker_is_late, ()),
    (mutants.the_committed_position_is_not_stable,
     test_schedules.test_a_restore_waits_for_positions_whose_marker_is_late, ()),
    (mutants.replay_ignores_covers,
     test_schedules.test_replay_leaves_out_what_the_snapshot_of_a_rebirth_covers, ()),
    (mutants.replay_creates_streams,
     test_schedules.test_replay_begins_no_stream_that_was_forgotten, ()),
    (mutants.replay_leaves_no_stream_dirty,
     test_schedules.test_replay_begins_no_stream_that_was_forgotten, ()),
    (mutants.nobody_asks_for_ownership,
     test_schedules.test_the_outcome_of_two_partitions_is_not_judged_by_the_one_that_was_lost, ()),
    (mutants.a_partition_that_comes_back_keeps_its_task,
     test_schedules.test_a_partition_lost_and_regained_with_a_transaction_in_flight_is_not_the_same, ()),
    (mutants.an_unknown_outcome_is_taken_for_done,
     test_schedules.test_a_transaction_of_unknown_outcome_is_done_once, ("lost", "fetch")),
    (mutants.an_unknown_outcome_is_sent_again,
     test_schedules.test_a_transaction_of_unknown_outcome_is_done_once, ("done", "fetch")),
    (mutants.a_position_that_stands_still_counts_as_advanced,
     test_schedules.test_a_transaction_of_snapshots_only_is_repeated_when_its_outcome_is_unknown, ()),
    (mutants.outcomes_are_judged_by_lost_partitions_too,
     test_schedules.test_the_outcome_of_two_partitions_is_not_judged_by_the_one_that_was_lost, ()),
    (mutants.the_low_water_mark_forgets_dirty_streams,
     test_schedules.test_an_aborted_transaction_is_sent_again_as_it_was, ("begin",)),
    (mutants.the_low_water_mark_ignores_its_own_snapshots,
     test_schedules.test_an_aborted_transaction_is_sent_again_as_it_was, ("begin",)),
    (mutants.a_stream_begins_without_a_snapshot,
     test_schedules.test_an_aborted_transaction_is_sent_again_as_it_was, ("begin",)),
    (mutants.snapshots_are_taken_late,
     test_schedules.test_an_aborted_transaction_is_sent_again_as_it_was, ("begin",)),
    (mutants.a_tombstone_leaves_its_stream_dirty,
     test_schedules.test_replay_leaves_out_what_the_snapshot_of_a_rebirth_covers, ()),
    (mutants.a_stream_is_forgotten_under_the_transaction_at_hand,
     test_schedules.test_a_stream_that_falls_silent_in_the_batch_beside_a_transaction_keeps_its_events,
     (test_schedules.ONCE_MORE,)),
    (mutants.what_was_read_ahead_of_a_lost_partition_is_kept,
     test_schedules.test_what_was_read_ahead_of_a_partition_lost_and_regained_is_read_again, ()),
    (mutants.the_client_is_used_while_it_makes_an_attempt,
     test_schedules.test_a_stream_that_falls_silent_in_the_batch_beside_a_transaction_keeps_its_events,
     (test_schedules.ONCE_MORE,)),
    (mutants.a_silent_stream_begins_anew_only_when_its_row_was_freed,
     test_schedules.test_a_silent_stream_begins_anew_even_at_an_earlier_slot_whether_or_not_its_row_was_freed,
     (-1, (), ())),
    (mutants.a_rebirth_is_not_snapshotted,
     test_schedules.test_a_silent_stream_begins_anew_even_at_an_earlier_slot_whether_or_not_its_row_was_freed,
     (7, (), ())),
    (mutants.positions_are_sent_without_a_generation,
     test_schedules.test_positions_are_never_sent_without_a_generation, ()),
    (mutants.any_generation_will_do,
     test_schedules.test_a_partition_lost_and_regained_with_a_transaction_in_flight_is_not_the_same, ()),
    (mutants.what_lies_beyond_the_position_is_an_error_at_once,
     test_schedules.test_a_partition_lost_between_its_position_and_its_snapshots_is_restored_again, ()),
    (mutants.the_starting_position_is_not_committed,
     test_schedules.test_an_aborted_transaction_is_sent_again_as_it_was, ("begin",)),
    (mutants.a_lost_partition_keeps_its_streams,
     test_schedules.test_a_tombstone_cleaned_during_a_restore_brings_no_stream_back, ()),
    (mutants.the_old_producer_is_trusted,
     test_schedules.test_a_transaction_of_unknown_outcome_is_done_once, ("lost", "fetch")),
    (mutants.a_snapshot_only_transaction_moves_no_position,
     test_schedules.test_a_transaction_of_snapshots_only_is_repeated_when_its_outcome_is_unknown, ()),
    (mutants.zombies_are_not_shut_out,
     test_schedules.test_a_successor_of_the_same_name_shuts_the_zombie_out, ("commit",)),
    (mutants.the_revocation_knows_nothing_of_losses,
     test_schedules.
     test_a_lost_partition_known_before_another_is_asked_back_stays_out_of_its_last_transaction, ()),
    (mutants.a_restore_takes_its_time,
     test_schedules.test_a_tombstone_cleaned_during_a_restore_brings_no_stream_back, ()),
    (mutants.what_is_built_anew_takes_in_all_that_is_replayed,
     test_handover.test_a_new_model_finds_its_streams_as_many_steps_old_as_it_is_told_to_go_back, (1, 1)),
    (mutants.a_partition_runs_before_what_was_built_is_saved,
     test_handover.test_nothing_is_forecast_before_everything_built_is_saved, ()),
    (mutants.what_was_not_built_anew_is_left_for_another_restore,
     test_handover.test_a_stream_without_an_event_so_far_back_is_forgotten_and_counted, ()),
    (mutants.a_name_that_is_taken_is_not_asked_for,
     test_schedules.test_a_member_whose_fixed_name_another_takes_ends_and_the_other_goes_on, ("commit", (Turn(1),))),
]  # fmt: skip


@pytest.mark.parametrize(("mutant", "schedule", "arguments"), NOTICED, ids=[m.__name__ for m, _, _ in NOTICED])
def test_a_broken_rule_is_noticed(monkeypatch, mutant, schedule, arguments):
    schedule(*arguments)  # it passes while every rule holds
    mutant(monkeypatch)
    with pytest.raises((AssertionError, KeyError, TimedOutError, FencedError)):
        schedule(*arguments)


def test_every_broken_rule_has_a_schedule():
    rules = {name for name, rule in vars(mutants).items() if getattr(rule, "__module__", "") == mutants.__name__}
    assert rules == {mutant.__name__ for mutant, _, _ in NOTICED}
