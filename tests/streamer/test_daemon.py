"""The daemon's life without a broker: what is committed, when, and what a rebalance or a signal changes."""

import json
from collections.abc import Sequence

import pytest

from streamer.adapters.metrics import Metrics
from streamer.adapters.onnx_session import OnnxModel
from streamer.core.events import Partition, Records
from streamer.core.wire import ForecastEncoder
from streamer.daemon import HEALTHY_SECONDS, Daemon
from streamer.delivery import Rebalance
from streamer.pending import Pending
from tests import models
from tests.drive import EVENTS, event, new_engine, records
from tests.fake_kafka import Elapse, FakeKafka

OTHER = Partition("events", 1)
INTERVAL = 0.1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return OnnxModel(models.save(models.echo(), tmp_path_factory.mktemp("model") / "echo.onnx"))


class Run:
    """One daemon over one script."""

    def __init__(self, model: OnnxModel, *script: Records | Rebalance | Elapse, dead_letters: str = "") -> None:
        self.kafka = FakeKafka(script)
        self.metrics = Metrics(self.kafka.clocks.monotonic)
        pending = Pending(ForecastEncoder(model.manifest), "forecasts", dead_letters)
        self.engine = new_engine(model)
        self.daemon = Daemon(self.engine, self.kafka, pending, self.metrics, INTERVAL, self.kafka.clocks)
        self.daemon.run(self.kafka.stop)

    def forecasts(self, of: int) -> list[tuple[str, float]]:
        """(id, median of lead 1) of one commit's forecasts."""
        output, _ = self.kafka.commits[of]
        lines = [v for m in output if m.partition.topic == "forecasts" for v in m.values]
        return [(f["id"], f["quantiles"]["0.5"][0]) for f in map(json.loads, lines)]

    def count(self, metric: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(metric, labels)


def assigned(*partitions: Partition) -> Rebalance:
    return Rebalance(partitions, ())


def test_every_accepted_event_is_forecast_and_its_offset_committed_with_it(model):
    run = Run(model, assigned(EVENTS), records([event("a", 1, 5), event("b", 1, 7)], offset=40))
    ((output, offsets),) = run.kafka.commits
    assert offsets == {EVENTS: 42}
    assert [(m.partition, m.keys, m.headers) for m in output] == [(Partition("forecasts", 0), [b"a", b"b"], None)]
    assert run.forecasts(0) == [("events-0-40", 6.0), ("events-0-41", 8.0)]
    assert run.kafka.closed


def test_forecasts_go_to_the_events_own_partition(model):
    run = Run(model, assigned(EVENTS, OTHER), records([event("a", 1)]), records([event("a", 1)], partition=OTHER))
    ((output, offsets),) = run.kafka.commits
    assert [m.partition for m in output] == [Partition("forecasts", 0), Partition("forecasts", 1)]
    assert offsets == {EVENTS: 1, OTHER: 1}


def test_events_of_one_commit_interval_are_committed_together(model):
    run = Run(
        model,
        assigned(EVENTS),
        records([event("a", 1)]),
        Elapse(0.06),
        records([event("a", 2)], offset=1),
        Elapse(1.0),  # the poll may only wait for what is left of the interval
        records([event("a", 3)], offset=2),
    )
    assert [offsets for _, offsets in run.kafka.commits] == [{EVENTS: 2}, {EVENTS: 3}]
    assert run.kafka.asked_seconds[4] == pytest.approx(0.04)


def test_a_backlog_is_committed_before_the_interval_is_over(model):
    log = [event("a", h) for h in range(1, 10_001)]
    big = [records(log, 0), records(log, 10_000), records(log, 20_000)]
    run = Run(model, assigned(EVENTS), *big)
    assert [offsets[EVENTS] for _, offsets in run.kafka.commits] == [20_000, 30_000]


def test_an_idle_daemon_commits_nothing(model):
    assert Run(model, assigned(EVENTS), Elapse(5), Elapse(5)).kafka.commits == []


def test_revoked_partitions_are_committed_before_they_go_and_their_streams_forgotten(model):
    run = Run(
        model,
        assigned(EVENTS, OTHER),
        records([event("a", 1, 5)]),
        Rebalance((), (EVENTS,)),
        assigned(EVENTS),
        records([event("a", 9, None)], offset=1),
    )
    assert [offsets for _, offsets in run.kafka.commits] == [{EVENTS: 1}, {EVENTS: 2}]
    assert run.forecasts(1) == [("events-0-1", 1.0)]  # a fresh stream: no trace of the 5
    assert run.count("streamer_assigned_partitions") == 2


def test_what_was_read_when_the_signal_came_is_committed(model):
    run = Run(model, assigned(EVENTS), records([event("a", 1)]))
    assert [offsets for _, offsets in run.kafka.commits] == [{EVENTS: 1}]


BAD: Sequence[object] = [b"nonsense", event("a", 1), event("a", 1), b"{}"]


def test_rejected_records_become_dead_letters_with_their_bytes_and_reason(model):
    run = Run(model, assigned(EVENTS), records(BAD, offset=7), dead_letters="dead")
    ((output, offsets),) = run.kafka.commits
    (letters,) = (m for m in output if m.partition.topic == "dead")
    assert offsets == {EVENTS: 11}
    assert letters.values[0] == b"nonsense"
    assert letters.keys == [b"key"] * 3
    reasons = [dict(h)["__streams.errors.exception"] for h in letters.headers or ()]
    assert reasons == [b"not_json", b"duplicate", b"missing_field"]
    assert run.count("streamer_dead_letters_published_total") == 3


def test_rejected_records_without_a_dead_letter_topic_are_counted_and_passed(model):
    run = Run(model, assigned(EVENTS), records([b"nonsense"]))
    assert run.kafka.commits == [([], {EVENTS: 1})]
    assert run.count("streamer_events_rejected_total", reason="not_json") == 1


def test_the_counts_add_up(model):
    run = Run(model, assigned(EVENTS), records(BAD), records([event("a", 2)], offset=4))
    assert run.count("streamer_records_consumed_total") == 5
    assert run.count("streamer_events_accepted_total") == 2
    assert run.count("streamer_forecasts_published_total") == 2
    assert run.count("streamer_active_streams") == 1


def test_a_stream_that_breaks_again_and_again_is_logged_once(model, caplog):
    caplog.set_level("INFO", logger="streamer")
    run = Run(model, assigned(EVENTS), *(records([event("a", h, -999.0)], offset=h) for h in range(1, 5)))
    assert run.count("streamer_state_resets_total") == 4
    assert sum("event=state_reset" in line for line in caplog.messages) == 1


def test_it_is_ready_once_partitions_are_assigned_and_healthy_while_it_turns(model):
    run = Run(model, Elapse(0.1))
    assert not run.daemon.ready()[0]
    run = Run(model, assigned(EVENTS), Elapse(0.1))
    assert run.daemon.ready()[0]
    assert run.daemon.healthy()[0]
    run.kafka.now += HEALTHY_SECONDS
    assert not run.daemon.healthy()[0]


def test_the_lag_is_measured_every_few_seconds_not_every_poll(model):
    kafka_lag = {EVENTS: 17}
    run = Run(model, assigned(EVENTS))
    run.kafka.behind = kafka_lag
    assert run.count("streamer_consumer_lag_records", topic="events", partition="0") is None
    run.kafka.now += 10
    run.kafka.stop.clear()
    run.daemon.run(run.kafka.stop)
    assert run.count("streamer_consumer_lag_records", topic="events", partition="0") == 17
