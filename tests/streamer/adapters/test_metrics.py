"""The metrics: what moves each of them, and that the documentation lists them all."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

import streamer
from streamer.adapters.metrics import Metrics
from streamer.adapters.metrics.delivery import TRANSACTION_RESULTS
from streamer.adapters.metrics.histogram import BatchHistogram
from streamer.adapters.metrics.state import RESET_REASONS
from streamer.core.contract import Block, Manifest
from streamer.core.decoding import Rejection
from streamer.core.events import NO_TIMESTAMP, REASONS, Partition, Records
from streamer.core.forecasts import Forecasts, Outcome

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"
EVENTS_3 = Partition("events", 3)
EVENTS_4 = Partition("events", 4)
NOW_MS = 1_700_000_000_000


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock) -> Metrics:
    return Metrics(clock)


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def outcome(accepted, reasons=(), cold=0):
    n = accepted + len(reasons)
    records = Records(EVENTS_3, range(n), range(1000, 1000 + n), [b"k"] * n, [b"{}"] * n)
    rejected = [Rejection(accepted + i, reason, "…") for i, reason in enumerate(reasons)]
    forecasts = Forecasts(
        records=records,
        index=np.arange(accepted),
        stream=["s"] * accepted,
        row=np.zeros(accepted, np.int64),
        born=np.zeros(accepted, bool),
        origin=np.zeros(accepted, np.int64),
        warm=np.arange(accepted) >= cold,
        wanted=np.ones(accepted, bool),
        quantiles=np.zeros((accepted, 1, 1), np.float32),
        rejected=rejected,
    )
    return Outcome([forecasts], [], accepted)


def read_at(partition, *milliseconds):
    n = len(milliseconds)
    return Records(partition, range(n), milliseconds, [b"k"] * n, [b"{}"] * n)


def block(lengths):
    shape = (len(lengths), max(lengths), 1)
    return Block(
        value=np.zeros(shape, np.float32),
        observed=np.zeros(shape, np.float32),
        time=np.zeros(shape[:2], np.int64),
        length=np.array(lengths),
        emit=np.zeros(0, np.int64),
        static=np.zeros((len(lengths), 0), np.int64),
    )


def test_every_consumed_record_is_accepted_or_rejected_for_one_reason(metrics):
    metrics.events.batch_advanced(outcome(5, ["late", "late", "not_json"]))
    metrics.events.batch_advanced(outcome(1, ["late"]))
    assert value(metrics, "streamer_records_consumed_total") == 10
    assert value(metrics, "streamer_events_accepted_total") == 6
    assert value(metrics, "streamer_events_rejected_total", reason="late") == 3
    assert value(metrics, "streamer_events_rejected_total", reason="not_json") == 1
    assert value(metrics, "streamer_batch_records_count") == 2
    assert value(metrics, "streamer_batch_records_sum") == 10


def test_a_reason_nobody_met_yet_is_already_there_at_zero(metrics):
    assert {reason: value(metrics, "streamer_events_rejected_total", reason=reason) for reason in REASONS} == (
        dict.fromkeys(REASONS, 0)
    )


def test_streams_and_their_memory_are_those_after_the_batch_or_the_release(metrics):
    metrics.state.held(streams=3, arena_bytes=960)
    assert (value(metrics, "streamer_active_streams"), value(metrics, "streamer_arena_bytes")) == (3, 960)
    metrics.state.held(streams=1, arena_bytes=320)
    assert (value(metrics, "streamer_active_streams"), value(metrics, "streamer_arena_bytes")) == (1, 320)


def test_streams_that_start_fresh_are_counted_by_reason(metrics):
    metrics.state.reset("not_finite", 2)
    metrics.state.reset("other_model", 7)
    counts = {reason: value(metrics, "streamer_state_resets_total", reason=reason) for reason in RESET_REASONS}
    assert counts == {"not_finite": 2, "other_model": 7, "corrupt": 0, "input_truncated": 0}


def test_streams_built_anew_are_counted(metrics):
    metrics.state.rebuilt(3)
    assert value(metrics, "streamer_streams_rebuilt_total") == 3


def test_input_deleted_before_it_was_read_is_counted(metrics):
    metrics.state.input_lost(5)
    assert value(metrics, "streamer_input_lost_records_total") == 5


def test_a_block_counts_its_rows_its_longest_row_and_what_was_only_padding(metrics):
    metrics.model.block_advanced(block([5, 3, 1]), seconds=0.004)
    assert value(metrics, "streamer_model_calls_total") == 1
    assert value(metrics, "streamer_block_rows_sum") == 3
    assert value(metrics, "streamer_block_steps_sum") == 5
    assert value(metrics, "streamer_model_steps_total") == 9
    assert value(metrics, "streamer_padding_steps_total") == 6
    assert value(metrics, "streamer_inference_seconds_bucket", le="0.002") == 0
    assert value(metrics, "streamer_inference_seconds_bucket", le="0.005") == 1


def test_a_commit_counts_what_it_published_and_how_long_that_took(metrics):
    metrics.delivery.committed(np.array([1_000, 2_000]), dead_letters=3, seconds=0.03, now_ms=2_500)
    assert value(metrics, "streamer_forecasts_published_total") == 2
    assert value(metrics, "streamer_dead_letters_published_total") == 3
    assert value(metrics, "streamer_commit_seconds_sum") == 0.03
    assert value(metrics, "streamer_end_to_end_seconds_count") == 2
    assert value(metrics, "streamer_end_to_end_seconds_sum") == 2.0


def test_every_end_of_an_attempt_is_counted_and_there_from_the_start(metrics):
    assert {r: value(metrics, "streamer_transactions_total", result=r) for r in TRANSACTION_RESULTS} == (
        dict.fromkeys(TRANSACTION_RESULTS, 0)
    )
    metrics.delivery.transaction("aborted")
    metrics.delivery.transaction("committed")
    metrics.delivery.transaction("aborted")
    assert value(metrics, "streamer_transactions_total", result="aborted") == 2
    assert value(metrics, "streamer_transactions_total", result="committed") == 1


def test_snapshots_are_counted_with_their_bytes(metrics):
    metrics.state.snapshots_written(3, 300)
    metrics.state.snapshots_written(1, 100)
    assert value(metrics, "streamer_snapshots_written_total") == 4
    assert value(metrics, "streamer_snapshot_bytes_total") == 400


def test_what_a_restart_would_replay_is_known_of_the_partitions_that_are_here(metrics):
    metrics.state.dirty(5, {EVENTS_3: 70, EVENTS_4: 0})
    assert value(metrics, "streamer_dirty_streams") == 5
    assert value(metrics, "streamer_low_water_distance_records", topic="events", partition="3") == 70
    metrics.state.dirty(0, {EVENTS_4: 2})
    assert value(metrics, "streamer_low_water_distance_records", topic="events", partition="3") is None
    assert value(metrics, "streamer_low_water_distance_records", topic="events", partition="4") == 2


def test_a_restore_counts_its_time_its_snapshots_and_its_replay(metrics):
    metrics.state.restored(0.7, snapshots=12, replayed=34)
    assert value(metrics, "streamer_restore_seconds_sum") == 0.7
    assert value(metrics, "streamer_restored_snapshots_total") == 12
    assert value(metrics, "streamer_replayed_records_total") == 34


def test_rebalances_and_fencings_are_counted(metrics):
    metrics.assignment.rebalanced([EVENTS_3])
    metrics.assignment.rebalanced([EVENTS_3])
    metrics.delivery.fenced()
    assert value(metrics, "streamer_rebalances_total") == 2
    assert value(metrics, "streamer_fencings_total") == 1


def test_a_record_from_a_clock_that_runs_ahead_took_no_time(metrics):
    metrics.delivery.committed(np.array([9_000]), dead_letters=0, seconds=0.0, now_ms=2_500)
    assert value(metrics, "streamer_end_to_end_seconds_bucket", le="0.01") == 1
    assert value(metrics, "streamer_end_to_end_seconds_sum") == 0


def test_a_record_without_timestamp_is_published_but_its_delay_unknown(metrics):
    metrics.delivery.committed(np.array([NO_TIMESTAMP, 2_000]), dead_letters=0, seconds=0.0, now_ms=2_500)
    assert value(metrics, "streamer_forecasts_published_total") == 2
    assert value(metrics, "streamer_end_to_end_seconds_count") == 1


def test_the_lag_of_a_revoked_partition_disappears(metrics):
    metrics.assignment.rebalanced([EVENTS_3, EVENTS_4])
    assert value(metrics, "streamer_assigned_partitions") == 2
    assert value(metrics, "streamer_consumer_lag_records", topic="events", partition="3") is None
    metrics.assignment.lag_seen({EVENTS_3: 7, EVENTS_4: 0}, NOW_MS)
    assert value(metrics, "streamer_consumer_lag_records", topic="events", partition="3") == 7
    metrics.assignment.rebalanced([EVENTS_4])
    assert value(metrics, "streamer_consumer_lag_records", topic="events", partition="3") is None
    assert value(metrics, "streamer_consumer_lag_records", topic="events", partition="4") == 0
    metrics.assignment.lag_seen({}, NOW_MS)
    assert value(metrics, "streamer_consumer_lag_records", topic="events", partition="4") is None
    assert value(metrics, "streamer_assigned_partitions") == 1


def test_lag_in_seconds_is_the_age_of_the_last_record_read_while_more_wait(metrics):
    def age(partition):
        return value(metrics, "streamer_consumer_lag_seconds", topic="events", partition=str(partition.number))

    metrics.assignment.rebalanced([EVENTS_3, EVENTS_4])
    metrics.assignment.lag_seen({EVENTS_3: 9, EVENTS_4: 5}, NOW_MS)
    assert age(EVENTS_3) is None  # nothing read yet: nobody knows how old its records are
    metrics.assignment.read([read_at(EVENTS_3, NOW_MS - 90_000, NOW_MS - 60_000), read_at(EVENTS_4, NO_TIMESTAMP)])
    metrics.assignment.lag_seen({EVENTS_3: 7, EVENTS_4: 5}, NOW_MS)
    assert (age(EVENTS_3), age(EVENTS_4)) == (60, None)
    metrics.assignment.lag_seen({EVENTS_3: 7}, NOW_MS + 5_000)  # stuck: it grows
    assert age(EVENTS_3) == 65
    metrics.assignment.lag_seen({EVENTS_3: 0}, NOW_MS + 9_000)  # idle, not old
    assert age(EVENTS_3) == 0
    metrics.assignment.rebalanced([EVENTS_4])
    assert age(EVENTS_3) is None
    metrics.assignment.lag_seen({EVENTS_3: 1}, NOW_MS)  # given back: what was read before says nothing
    assert age(EVENTS_3) is None


def test_forecasts_within_warm_up_are_counted(metrics):
    metrics.events.batch_advanced(outcome(5, cold=2))
    assert value(metrics, "streamer_forecasts_cold_total") == 2


def test_the_time_of_the_last_forecasts_stands_still_where_only_snapshots_are_committed(metrics):
    assert value(metrics, "streamer_last_forecast_timestamp_seconds") == 0
    metrics.delivery.committed(np.array([1_000]), dead_letters=0, seconds=0.0, now_ms=2_500)
    metrics.delivery.committed(np.zeros(0, np.int64), dead_letters=0, seconds=0.0, now_ms=9_000)
    assert value(metrics, "streamer_last_forecast_timestamp_seconds") == 2.5


def test_limits_are_there_to_compare_with(clock):
    metrics = Metrics(clock, max_streams=100, memory_bytes=2**30)
    assert value(metrics, "streamer_max_streams") == 100
    assert value(metrics, "streamer_memory_limit_bytes") == 2**30


def test_partitions_that_are_not_restored_yet_are_counted(metrics):
    metrics.state.restoring(3)
    assert value(metrics, "streamer_restoring_partitions") == 3


def test_the_time_since_a_turn_grows_until_the_loop_turns(metrics, clock):
    clock.seconds += 12
    assert value(metrics, "streamer_since_turn_seconds") == 12
    metrics.process.turned()
    clock.seconds += 1
    assert value(metrics, "streamer_since_turn_seconds") == metrics.process.seconds_since_turn() == 1
    assert value(metrics, "streamer_since_progress_seconds") == 13


def test_the_time_since_progress_grows_until_something_is_committed_or_there_is_nothing_to_commit(metrics, clock):
    clock.seconds += 12
    assert value(metrics, "streamer_since_progress_seconds") == 12
    metrics.process.progressed()
    clock.seconds += 1
    assert value(metrics, "streamer_since_progress_seconds") == metrics.process.seconds_since_progress() == 1


def test_build_and_model_say_what_runs(metrics):
    manifest = Manifest(
        contract=1,
        name="gru-64",
        version="3",
        cell="gru",
        grid="regular",
        step_ms=1,
        horizon=24,
        levels=(0.5,),
        warmup_steps=0,
    )
    metrics.model.serving(manifest, "ab12", ["CPUExecutionProvider"])
    text = generate_latest(metrics.registry).decode()
    [model] = re.findall(r"^streamer_model_info\{(.*)\} 1\.0$", text, re.MULTILINE)
    assert sorted(model.split(",")) == [
        'cell="gru"',
        'fingerprint="ab12"',
        'horizon="24"',
        'name="gru-64"',
        'providers="CPUExecutionProvider"',
        'version="3"',
    ]
    assert re.search(
        rf'^streamer_build_info\{{.*version="{re.escape(streamer.__version__)}".*\}} 1\.0$', text, re.MULTILINE
    )


def test_two_processes_worth_of_metrics_share_nothing(metrics, clock):
    metrics.events.batch_advanced(outcome(1))
    assert value(Metrics(clock), "streamer_records_consumed_total") == 0


def test_the_process_itself_is_measured(metrics):
    assert value(metrics, "process_resident_memory_bytes") > 0


def test_counting_an_array_equals_observing_each_value():
    rng = np.random.default_rng(7)
    buckets = (0.01, 0.1, 1.0, 10.0)
    values = np.concatenate([rng.lognormal(0, 3, 2_000), buckets, [0.0]])  # bounds themselves belong to their bucket
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    many = BatchHistogram("delay_seconds", "Delay.", buckets, ours)
    one = Histogram("delay_seconds", "Delay.", buckets=buckets, registry=theirs)
    for part in np.split(values, [1, 500, 501]):
        many.observe_many(part)
    for v in values:
        one.observe(v)
    assert counts(ours) == counts(theirs)
    assert ours.get_sample_value("delay_seconds_sum") == pytest.approx(theirs.get_sample_value("delay_seconds_sum"))


def test_a_histogram_of_nothing_is_complete():
    registry = CollectorRegistry()
    histogram = BatchHistogram("delay_seconds", "Delay.", (0.5, 1.0), registry)
    histogram.observe_many(np.zeros(0))
    assert counts(registry) == {"0.5": 0, "1.0": 0, "+Inf": 0}
    assert registry.get_sample_value("delay_seconds_count") == 0


def test_counting_10000_delays_at_once_is_far_cheaper_than_one_by_one():
    values = np.random.default_rng(7).lognormal(0, 3, 10_000)
    many = BatchHistogram("many_seconds", "Delay.", (0.01, 0.1, 1.0), CollectorRegistry())
    one = Histogram("one_seconds", "Delay.", buckets=(0.01, 0.1, 1.0), registry=CollectorRegistry())
    at_once = min(_seconds(lambda: many.observe_many(values)) for _ in range(5))
    one_by_one = min(_seconds(lambda: [one.observe(v) for v in values.tolist()]) for _ in range(3))
    assert at_once < one_by_one / 5  # about 40 times


def test_every_metric_is_documented_and_every_documented_metric_exists(metrics):
    assert documented() == exposed(metrics)


def test_every_metric_explains_itself(metrics):
    assert [family.name for family in metrics.registry.collect() if not family.documentation.endswith(".")] == []


def exposed(metrics):
    """Name → type and labels, from the text that Prometheus reads."""
    metrics.assignment.read([read_at(EVENTS_3, 0)])
    metrics.assignment.lag_seen({EVENTS_3: 1}, NOW_MS)
    metrics.state.dirty(1, {EVENTS_3: 1})
    manifest = Manifest(
        contract=1,
        name="m",
        version="1",
        cell="gru",
        grid="regular",
        step_ms=1,
        horizon=1,
        levels=(0.5,),
        warmup_steps=0,
    )
    metrics.model.serving(manifest, "f", ["p"])
    text = generate_latest(metrics.registry).decode()
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    return {name: (kind, _labels(name, text)) for name, kind in types.items()}


def _labels(name, text):
    sets = re.findall(rf"^{name}(?:_bucket)?\{{(.*)\}} ", text, re.MULTILINE)
    return {label for labels in sets for label in re.findall(r'(\w+)="', labels)} - {"le"}


def documented():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|(.*?)\| .+ \| .+ \|$", DOCUMENT.read_text(), re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def counts(registry):
    samples = [s for family in registry.collect() for s in family.samples if s.name.endswith("_bucket")]
    return {s.labels["le"]: s.value for s in samples}


def _seconds(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
