"""Every alert fires at its minute with its numbers, and stays silent on what only looks like it.

Series are functions of the minute, scraped every 30 s as the chart has it; promtool evaluates the rules each minute.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import yaml

from tests.observability.prometheus import ALERTS, promtool

RULES = {rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}
GROUP = {"namespace": "shop", "job": "tidecast"}
POD = GROUP | {"pod": "tidecast-0", "instance": "10.0.0.1:9108"}
OTHER = GROUP | {"pod": "tidecast-1", "instance": "10.0.0.2:9108"}
EVENTS = {"topic": "events", "partition": "0"}
MINUTES = 100
GONE = float("nan")  # a scrape that failed: the series is stale from there on

Value = float | None
Series = Callable[[float], Value]


@dataclass(frozen=True)
class Fires:
    """An alert, the first minute it fires at, the labels that make it out, and what its summary says."""

    alert: str
    minute: int
    labels: Mapping[str, str]
    summary: str
    series: Mapping[str, Series]


def named(name: str, labels: Mapping[str, str] = POD, **more: str) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in {**labels, **more}.items())
    return f"{name}{{{inside}}}"


def constant(value: float) -> Series:
    return lambda minute: value


def rising(per_minute: float, start: float = 0, until: float = MINUTES) -> Series:
    """A counter that rises between two minutes."""
    return lambda minute: per_minute * max(0.0, min(minute, until) - start)


def between(start: float, end: float, value: float, otherwise: Value = 0) -> Series:
    return lambda minute: value if start <= minute < end else otherwise


def lag(series: Series, labels: Mapping[str, str] = POD, partition: str = "0") -> dict[str, Series]:
    return {named("streamer_consumer_lag_records", labels, topic="events", partition=partition): series}


def transactions(result: str, series: Series, labels: Mapping[str, str] = POD) -> dict[str, Series]:
    return {named("streamer_transactions_total", labels, result=result): series}


def delays(bound: str, series: Series) -> dict[str, Series]:
    """Delays up to this bound and not below the one before, as cumulative buckets."""
    bounds = ["1.0", "10.0", "60.0", "+Inf"]
    return {
        named("streamer_end_to_end_seconds_bucket", le=le): series if i >= bounds.index(bound) else constant(0)
        for i, le in enumerate(bounds)
    }


WAITING = lag(constant(500))
COMMITTING = transactions("committed", rising(60))
SETTLED = {named("streamer_restoring_partitions"): constant(0)}

FIRES = [
    Fires(
        "TidecastNotProgressing",
        16,  # 4 minutes and one scrape after the last progress, and a minute of patience
        POD,
        "tidecast-0 10.0.0.1:9108 committed and restored nothing for 6m 0s",
        {named("streamer_since_progress_seconds"): rising(60, start=10)},
    ),
    Fires(
        "TidecastNotReading",
        20,  # the last commit leaves the 5 minutes of the rate at 15
        POD,
        "tidecast-0 10.0.0.1:9108 commits nothing while 500 records wait",
        WAITING | SETTLED | transactions("committed", rising(60, until=10)),
    ),
    Fires(
        "TidecastLoopStuck",
        13,  # a loop that stops at minute 10: over 60 s at the evaluation of minute 12
        POD,
        "The loop of tidecast-0 10.0.0.1:9108 last turned 3m 0s ago",
        {named("streamer_since_turn_seconds"): rising(60, start=10)},
    ),
    Fires(
        "TidecastPartitionsUnserved",
        75,
        GROUP,
        "shop/tidecast serves 2 partitions fewer than before",
        {
            named("streamer_assigned_partitions"): constant(4),
            named("streamer_assigned_partitions", OTHER): between(0, 70, 2),
        },
    ),
    Fires(
        "TidecastPartitionsUnserved",
        80,  # a group that ends altogether, whose last sample is believed for 5 minutes
        GROUP,
        "shop/tidecast serves 6 partitions fewer than before",
        {named("streamer_assigned_partitions"): between(0, 70, 6, otherwise=None)},
    ),
    Fires(
        "TidecastLagGrowing",
        26,  # two processes, 101 records a minute each: over 1,000 at minute 11
        GROUP,
        "shop/tidecast fell behind by 2.02k records in 10 minutes",
        lag(rising(101, start=6)) | lag(rising(101, start=6), OTHER, "1") | COMMITTING,
    ),
    Fires(
        "TidecastLagTooOld",
        26,
        {**GROUP, "topic": "events"},
        "shop/tidecast is 16m 0s behind on topic events",
        {named("streamer_consumer_lag_seconds", **EVENTS): rising(60, start=10)},
    ),
    Fires(
        "TidecastForecastsLate",
        11,
        GROUP,
        "One forecast in ten of shop/tidecast comes later than 55s",
        delays("60.0", rising(10)),
    ),
    Fires(
        "TidecastForecastsStale",
        21,
        GROUP,
        "The newest forecasts of shop/tidecast are 11m 0s old",
        WAITING | {named("streamer_last_forecast_timestamp_seconds"): lambda minute: 60 * min(minute + 0.1, 10)},
    ),
    Fires(
        "TidecastRejectedShare",
        11,
        GROUP,
        "shop/tidecast rejects 6% of its records",
        {
            named("streamer_records_consumed_total"): rising(500),
            named("streamer_records_consumed_total", OTHER): rising(500),
            named("streamer_events_rejected_total", reason="late"): rising(40),
            named("streamer_events_rejected_total", OTHER, reason="not_json"): rising(20),
        },
    ),
    Fires(
        "TidecastTransactionsFailing",
        11,
        GROUP,
        "20% of the transactions of shop/tidecast fail",
        transactions("committed", rising(80))
        | transactions("aborted", rising(15))
        | transactions("unknown", rising(5)),
    ),
    Fires(
        "TidecastRestoreSlow",
        17,
        POD,
        "tidecast-0 10.0.0.1:9108 still restores 3 partitions after 10 minutes",
        {named("streamer_restoring_partitions"): between(7, 99, 3)},
    ),
    Fires(
        "TidecastStreamsNearLimit",
        31,  # 910 streams at minute 21
        POD,
        "tidecast-0 10.0.0.1:9108 holds 95% of its most streams",
        {
            named("streamer_max_streams"): constant(1000),
            named("streamer_active_streams"): lambda m: 700 + 10 * min(m, 25),
        },
    ),
    Fires(
        "TidecastStreamsRefused",
        13,
        GROUP,
        "shop/tidecast refuses 1.2 events of new streams a second",
        {named("streamer_events_rejected_total", reason="too_many_streams"): rising(120, start=10)},
    ),
    Fires(
        "TidecastMemoryNearLimit",
        15,
        POD,
        "tidecast-0 10.0.0.1:9108 uses 93.75% of its memory",
        {
            named("process_resident_memory_bytes"): between(5, 99, 15 * 2**26, 2**29),
            named("streamer_memory_limit_bytes"): constant(2**30),
        },
    ),
    Fires(
        "TidecastRestartsRepeatedly",
        25,
        POD,
        "tidecast-0 10.0.0.1:9108 started 3 times in 30 minutes",
        {
            named("process_start_time_seconds"): lambda minute: 1_700_000_000 + 480 * (minute // 8),
            named("streamer_build_info", version="1"): constant(1),
        },
    ),
    Fires(
        "TidecastRestartsRepeatedly",
        19,  # fenced within a minute of each start, and kept waiting for 5 before the next
        POD,
        "tidecast-0 10.0.0.1:9108 started 3 times in 30 minutes",
        {
            named("process_start_time_seconds"): lambda m: 1_700_000_000 + 360 * (m // 6) if m % 6 < 1 else GONE,
            named("streamer_build_info", version="1"): lambda m: 1 if m % 6 < 1 else GONE,
        },
    ),
    Fires(
        "TidecastStreamsStartedFresh",
        2,  # lost before the first scrape
        {**GROUP, "reason": "input_truncated"},
        "7 streams of shop/tidecast lost their state: input_truncated",
        {named("streamer_state_resets_total", reason="input_truncated"): between(0.5, 200, 7, otherwise=None)},
    ),
    Fires(
        "TidecastStreamsStartedFresh",
        51,
        {**GROUP, "reason": "corrupt"},
        "2 streams of shop/tidecast lost their state: corrupt",
        {named("streamer_state_resets_total", reason="corrupt"): between(50, 200, 2)},
    ),
    Fires(
        "TidecastInputLost",
        2,  # lost before the first scrape
        GROUP,
        "120 records of the input of shop/tidecast were never read",
        {named("streamer_input_lost_records_total"): between(0.5, 200, 120, otherwise=None)},
    ),
    Fires(
        "TidecastInputLost",
        51,
        GROUP,
        "70 records of the input of shop/tidecast were never read",
        {named("streamer_input_lost_records_total"): between(50, 200, 70)},
    ),
    Fires(
        "TidecastStatesBreak",
        31,
        GROUP,
        "4 states of shop/tidecast broke in 15 minutes",
        {named("streamer_state_resets_total", reason="not_finite"): between(30, 200, 4)},
    ),
]

SILENT: list[tuple[str, str, Mapping[str, Series]]] = [
    (
        "TidecastNotReading",
        "an idle topic",
        lag(constant(0)) | SETTLED | transactions("committed", constant(600)),
    ),
    ("TidecastNotReading", "a busy topic, with records waiting at every scrape", WAITING | SETTLED | COMMITTING),
    (
        "TidecastNotReading",
        "a restart that restores for 12 minutes",
        WAITING
        | {named("streamer_restoring_partitions"): between(0, 12, 2)}
        | transactions("committed", rising(60, start=12)),
    ),
    ("TidecastNotReading", "a daemon without partitions", transactions("committed", constant(0)) | SETTLED),
    (
        "TidecastNotProgressing",
        "brokers that change for 3 minutes, again and again",
        {named("streamer_since_progress_seconds"): lambda m: 60 * (m % 4)},
    ),
    (
        "TidecastNotProgressing",
        "an idle topic, or no partitions",
        {named("streamer_since_progress_seconds"): constant(0.5)},
    ),
    ("TidecastLoopStuck", "a turn that takes 50 s", {named("streamer_since_turn_seconds"): constant(50)}),
    (
        "TidecastPartitionsUnserved",
        "a scale-down",
        {
            named("streamer_assigned_partitions"): lambda m: 3 if m < 70 else 6,
            named("streamer_assigned_partitions", OTHER): between(0, 72, 3, otherwise=None),
        },
    ),
    (
        "TidecastPartitionsUnserved",
        "a scale-up, in which partitions are seen at both for a minute",
        {
            named("streamer_assigned_partitions"): lambda m: 6 if m < 71 else 3,
            named("streamer_assigned_partitions", OTHER): between(70, 200, 3, otherwise=None),
        },
    ),
    (
        "TidecastPartitionsUnserved",
        "a rolling restart",
        {
            named("streamer_assigned_partitions"): lambda m: 0 if 70 <= m < 72 else 3,
            named("streamer_assigned_partitions", OTHER): lambda m: 0 if 73 <= m < 75 else 3,
        },
    ),
    (
        "TidecastLagGrowing",
        "a load of 50,000 records at once",
        lag(lambda m: max(0, 50_000 - 2_000 * (m - 20)) * (m > 20)),
    ),
    ("TidecastLagGrowing", "a constant backlog", lag(constant(1e6))),
    (
        "TidecastLagGrowing",
        "a partition's lag moving to another process",
        lag(between(0, 30, 5e5, otherwise=None)) | lag(between(30, 200, 5e5, otherwise=None), OTHER),
    ),
    (
        "TidecastLagTooOld",
        "an idle topic whose last record is old",
        {named("streamer_consumer_lag_seconds", **EVENTS): constant(0)},
    ),
    (
        "TidecastLagTooOld",
        "a restart that catches up in 8 minutes",
        {named("streamer_consumer_lag_seconds", **EVENTS): between(10, 18, 900)},
    ),
    ("TidecastForecastsLate", "prompt forecasts", delays("1.0", rising(1000))),
    (
        "TidecastForecastsLate",
        "one late forecast in a hundred",
        {
            named("streamer_end_to_end_seconds_bucket", le="1.0"): rising(99),
            named("streamer_end_to_end_seconds_bucket", le="60.0"): rising(100),
            named("streamer_end_to_end_seconds_bucket", le="+Inf"): rising(100),
        },
    ),
    ("TidecastForecastsLate", "an idle topic", delays("60.0", constant(10))),
    (
        "TidecastForecastsStale",
        "an idle topic",
        lag(constant(0)) | {named("streamer_last_forecast_timestamp_seconds"): constant(60)},
    ),
    (
        "TidecastForecastsStale",
        "a busy topic whose forecasts are published once a day",
        WAITING
        | {
            named("streamer_last_forecast_timestamp_seconds"): constant(60),
            named("streamer_events_accepted_total"): rising(6000),
        },
    ),
    (
        "TidecastForecastsStale",
        "a process that just started beside one that publishes",
        WAITING
        | {
            named("streamer_last_forecast_timestamp_seconds"): constant(0),
            named("streamer_last_forecast_timestamp_seconds", OTHER): lambda m: 60 * m + 1,
        },
    ),
    (
        "TidecastRejectedShare",
        "3 rejections among 4 records",
        {
            named("streamer_records_consumed_total"): between(30, 200, 4),
            named("streamer_events_rejected_total", reason="late"): between(30, 200, 3),
        },
    ),
    (
        "TidecastRejectedShare",
        "an idle topic",
        {
            named("streamer_records_consumed_total"): constant(1000),
            named("streamer_events_rejected_total", reason="late"): constant(500),
        },
    ),
    (
        "TidecastRejectedShare",
        "4 % rejected",
        {
            named("streamer_records_consumed_total"): rising(1000),
            named("streamer_events_rejected_total", reason="late"): rising(40),
        },
    ),
    (
        "TidecastTransactionsFailing",
        "a rebalance that aborts for 3 minutes",
        COMMITTING | transactions("aborted", rising(30, start=20, until=23)),
    ),
    (
        "TidecastTransactionsFailing",
        "settled after an unknown outcome",
        COMMITTING | transactions("recovered", rising(60)),
    ),
    (
        "TidecastRestoreSlow",
        "restarts that restore for 8 minutes each",
        {named("streamer_restoring_partitions"): lambda m: 2 if m % 10 < 8 else 0},
    ),
    (
        "TidecastStreamsNearLimit",
        "a daemon without streams, and one without a limit",
        {
            named("streamer_max_streams"): constant(1000),
            named("streamer_active_streams"): constant(0),
            named("streamer_max_streams", OTHER): constant(0),
            named("streamer_active_streams", OTHER): constant(9),
        },
    ),
    (
        "TidecastStreamsRefused",
        "other rejections, and refusals long ago",
        {
            named("streamer_events_rejected_total", reason="late"): rising(60),
            named("streamer_events_rejected_total", reason="too_many_streams"): constant(60),
        },
    ),
    (
        "TidecastMemoryNearLimit",
        "another program near its limit",
        {
            named("process_resident_memory_bytes", job="other"): constant(2**30),
            named("streamer_memory_limit_bytes"): constant(2**30),
        },
    ),
    (
        "TidecastRestartsRepeatedly",
        "a roll-out of two versions, and another program's restarts",
        {
            named("process_start_time_seconds"): lambda m: 1_700_000_000 + 1_200 * (m // 20),
            named("streamer_build_info", version="1"): constant(1),
            named("process_start_time_seconds", job="other"): lambda m: 1_700_000_000 + 60 * m,
        },
    ),
    (
        "TidecastStreamsStartedFresh",
        "a change of models",
        {named("streamer_state_resets_total", reason="other_model"): between(20, 200, 5000)},
    ),
    (
        "TidecastInputLost",
        "a restart and a new pod that lose nothing",
        {
            named("streamer_input_lost_records_total"): constant(0),
            named("streamer_input_lost_records_total", OTHER): between(40, 200, 0, otherwise=None),
        },
    ),
    (
        "TidecastStatesBreak",
        "a restart, where the counter begins again",
        {named("streamer_state_resets_total", reason="not_finite"): lambda m: 40 if m < 1 else 0},
    ),
]


def check(folder, alert, series, expected):
    """Run promtool: at each of these minutes, exactly these alerts."""
    times = [minute / 2 for minute in range(2 * MINUTES)]
    shown = {
        name: ["_" if values(t) is None else f"{values(t):.12g}".replace("nan", "stale") for t in times]
        for name, values in series.items()
    }
    test = {
        "interval": "30s",
        "input_series": [{"series": name, "values": " ".join(values)} for name, values in shown.items()],
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": alerts} for minute, alerts in expected.items()
        ],
    }
    file = folder / "test.yaml"
    file.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}))
    promtool("test", "rules", str(file))


@pytest.mark.parametrize("case", FIRES, ids=lambda case: f"{case.alert}-{case.minute}")
def test_an_alert_fires_at_its_minute_and_not_before(tmp_path, case):
    rule = RULES[case.alert]
    labels = {**case.labels, **rule["labels"]}
    annotations = rule["annotations"] | {"summary": case.summary}
    alerts = [{"exp_labels": labels, "exp_annotations": annotations}]
    check(tmp_path, case.alert, case.series, {case.minute - 1: [], case.minute: alerts})


@pytest.mark.parametrize("left", [4, None])
def test_partitions_that_stay_unserved_are_not_forgotten(tmp_path, left):
    alert = RULES["TidecastPartitionsUnserved"]
    series = {named("streamer_assigned_partitions"): lambda minute: 6 if minute < 30 else left}
    summary = f"shop/tidecast serves {6 - (left or 0)} partitions fewer than before"
    expected = {
        "exp_labels": {**GROUP, **alert["labels"]},
        "exp_annotations": alert["annotations"] | {"summary": summary},
    }
    check(tmp_path, "TidecastPartitionsUnserved", series, {minute: [expected] for minute in (40, 65, 99)})


@pytest.mark.parametrize(("alert", "case", "series"), SILENT, ids=[f"{alert}: {case}" for alert, case, _ in SILENT])
def test_an_alert_is_silent_on_what_only_looks_like_it(tmp_path, alert, case, series):
    check(tmp_path, alert, series, {minute: [] for minute in range(MINUTES)})


def test_every_alert_was_tried_in_both_directions():
    assert {case.alert for case in FIRES} == set(RULES) == {alert for alert, _, _ in SILENT}


def test_promtool_accepts_the_rules():
    assert f"{len(RULES)} rules found" in promtool("check", "rules", str(ALERTS))


def test_every_alert_says_how_bad_it_is_with_a_number_in_its_summary():
    for name, rule in RULES.items():
        assert rule["labels"]["severity"] in ("warning", "critical"), name
        assert "$value" in rule["annotations"]["summary"], name
