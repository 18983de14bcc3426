"""The daemon against a real broker: what goes in comes out, as `streamer replay` would have it."""

import io
import json
import random
import signal
import uuid
import zlib
from itertools import pairwise

import numpy as np
import pytest

from streamer.adapters.files import read_records
from streamer.adapters.onnx_session import OnnxModel
from streamer.core.wire import ForecastEncoder
from streamer.demo import MODEL_PATH
from streamer.demo.command import keyed_events
from streamer.replay import replay
from tests import models
from tests.drive import HOUR, event, new_engine
from tests.integration.daemon import exit_of, running
from tests.integration.records import Record, committed_offsets, create_topic, produce, read_committed
from tests.integration.waiting import eventually

PARTITIONS = 3
LARGE_TOPIC = {"max.message.bytes": 4 * 2**20}


@pytest.fixture
def settings(bootstrap, tmp_path, kafka_client):
    return configuration(bootstrap, tmp_path, kafka_client)


def configuration(bootstrap, tmp_path, kafka_client):
    """With topics and a group of its own, for the echo model."""
    model = models.save(models.echo(horizon=2), tmp_path / "echo.onnx")
    return {
        "model.path": str(model),
        "kafka.client": kafka_client,
        "kafka.bootstrap_servers": bootstrap,
        "kafka.group_id": f"group-{uuid.uuid4().hex[:8]}",
        "input.topics": [create_topic(bootstrap, "events", PARTITIONS, settings=LARGE_TOPIC)],
        "output.topic": create_topic(bootstrap, "forecasts", PARTITIONS),
        "output.dead_letter_topic": create_topic(bootstrap, "rejected", PARTITIONS),
    }


def send(settings, records):
    produce(settings["kafka.bootstrap_servers"], settings["input.topics"][0], records)


def published(settings, topic="output.topic"):
    return read_committed(settings["kafka.bootstrap_servers"], settings[topic])


def test_the_demos_events_are_forecast_on_kafka_as_replay_forecasts_them(settings, tmp_path):
    lines = list(keyed_events())[:30_000]  # 69 days of 18 streams, gaps and nulls among them
    settings |= {"model.path": str(MODEL_PATH)}
    send(settings, [Record(line, key, zlib.crc32(key) % PARTITIONS) for key, line in lines])
    with running(tmp_path, settings) as streamer:
        streamer.await_consumed(len(lines))
        assert streamer.stop() == 0
    found = [json.loads(record.value) for record in published(settings)]

    sink = io.BytesIO()
    source = io.BufferedReader(io.BytesIO(b"\n".join(line for _, line in lines)))
    model = OnnxModel(MODEL_PATH)
    replay(new_engine(model), ForecastEncoder(model.manifest), read_records(source, "events", 2**20), sink)
    expected = [json.loads(line) for line in sink.getvalue().splitlines()]

    assert len(found) == len(expected) == len(lines)
    assert len({f["id"] for f in found}) == len(found)
    by_event = {(e["stream"], e["origin"]): e for e in expected}
    scale: dict[str, float] = {}
    for e in expected:
        largest = max(max(map(abs, numbers)) for numbers in e["quantiles"].values())
        scale[e["stream"]] = max(scale.get(e["stream"], 0.0), largest)
    for f in found:
        e = by_event[f["stream"], f["origin"]]
        assert (f["warm"], f["model"], f["step_ms"]) == (e["warm"], e["model"], e["step_ms"])
        a, b = (np.array(list(x["quantiles"].values())) for x in (f, e))
        assert (np.abs(a - b) <= 1e-5 * np.maximum(np.abs(b), scale[f["stream"]])).all()


def test_a_forecast_stands_in_its_events_partition_under_its_streams_key(settings, tmp_path):
    send(settings, [Record(json.dumps(event(s, 1)).encode(), b"key", p) for p, s in enumerate("abc")])
    with running(tmp_path, settings) as streamer:
        streamer.await_consumed(3)
        streamer.stop()
    topic = settings["input.topics"][0]
    found = [(r.partition, r.key, json.loads(r.value)["id"]) for r in published(settings)]
    assert found == [(p, s.encode(), f"{topic}-{p}-0") for p, s in enumerate("abc")]


BAD = {
    b"nonsense": "not_json",
    b"[]": "not_object",
    b'{"x":' + b"[" * 100 + b"]" * 100 + b"}": "too_deep",
    b'{"stream":"a","ts":1}': "missing_field",
    b'{"stream":"a","ts":1,"value":"2"}': "wrong_type",
    b'{"stream":"a","ts":1,"value":NaN}': "not_finite",
    b'{"stream":"a","ts":1,"value":-Infinity}': "not_finite",
    b'{"stream":"a","ts":1,"value":1e16}': "out_of_range",
    b'{"stream":"","ts":1,"value":1}': "bad_stream",
    b'{"stream":"a","ts":-1,"value":1}': "bad_timestamp",
    b'{"stream":"a","ts":253402300799999,"value":1}': "future",
    json.dumps(event("good", 5)).encode(): "late",
    json.dumps(event("good", 10)).encode(): "duplicate",
    json.dumps(event("a", 1, note=random.Random(1).randbytes(3 * 2**19).hex())).encode(): "too_large",
}


def test_each_bad_record_is_a_dead_letter_with_its_reason_and_the_next_good_one_is_forecast(settings, tmp_path):
    good = [Record(json.dumps(event("good", h)).encode(), b"good") for h in (10, 11)]
    bad = [Record(value, b"k%d" % i, headers=[("trace", b"17")]) for i, value in enumerate(BAD)]
    send(settings, [good[0], *bad, good[1]])
    with running(tmp_path, settings) as streamer:
        streamer.await_consumed(len(bad) + 2)
        for reason in set(BAD.values()):
            count = streamer.metric(f'streamer_events_rejected_total{{reason="{reason}"}}')
            assert count == sum(r == reason for r in BAD.values())
        streamer.stop()
    assert [json.loads(r.value)["origin"] for r in published(settings)] == [10 * HOUR, 11 * HOUR]
    letters = published(settings, "output.dead_letter_topic")
    assert [(r.key, r.value) for r in letters[:-1]] == [(r.key, r.value) for r in bad[:-1]]
    assert letters[-1].value == bad[-1].value[:1024]  # its topic takes 1 MB only, compressed
    for i, (letter, reason) in enumerate(zip(letters, BAD.values(), strict=True), start=1):
        headers = dict(letter.headers)
        assert headers["trace"] == b"17"
        assert headers["__streams.errors.exception"].decode() == reason
        assert headers["__streams.errors.offset"].decode() == str(i)


class Latin1(str):
    """A header's name that is not UTF-8 on the wire."""

    def encode(self, *_args):
        return super().encode("latin-1")


def test_a_header_whose_name_is_not_utf_8_costs_no_record(settings, tmp_path):
    named = [("trace", b"17"), (Latin1("caf\u00e9"), b"v")]
    good = [Record(json.dumps(event("a", h)).encode(), headers=named if h == 2 else ()) for h in (1, 2, 3)]
    send(settings, [good[0], Record(b"nonsense", headers=named), *good[1:]])
    with running(tmp_path, settings) as streamer:
        streamer.await_consumed(4)
        assert streamer.stop() == 0
    assert [json.loads(r.value)["origin"] // HOUR for r in published(settings)] == [1, 2, 3]
    (letter,) = published(settings, "output.dead_letter_topic")
    assert letter.value == b"nonsense"
    own = [(name, value) for name, value in letter.headers if not name.startswith("__streams.errors.")]
    readable = [("trace", b"17"), ("caf\ufffd", b"v")] if settings["kafka.client"] == "kafka-python" else []
    assert own == readable  # librdkafka's Python side tells either all headers or none
    assert dict(letter.headers)["__streams.errors.exception"] == b"not_json"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_the_next_run_goes_on_where_it_stopped(settings, tmp_path, number):
    settings |= {"delivery.commit_interval_seconds": 3600}  # only the drain commits
    send(settings, [Record(json.dumps(event("a", h)).encode()) for h in (1, 2)])
    with running(tmp_path, settings) as streamer:
        streamer.await_consumed(2)
        assert streamer.stop(number) == 0
        assert "event=stopped" in streamer.log
    bootstrap, topic = settings["kafka.bootstrap_servers"], settings["input.topics"][0]
    assert committed_offsets(bootstrap, settings["kafka.group_id"], topic)[0] == 2
    send(settings, [Record(json.dumps(event("a", 3)).encode())])
    with running(tmp_path, settings) as streamer:
        streamer.await_consumed(1)
        streamer.stop()
    assert [json.loads(r.value)["origin"] // HOUR for r in published(settings)] == [1, 2, 3]


def test_a_signal_while_brokers_are_away_ends_it_with_0_and_the_next_run_loses_nothing(
    make_cluster, tmp_path, kafka_client
):
    cluster = make_cluster()
    cluster.start()
    settings = configuration(cluster.bootstrap, tmp_path, kafka_client) | {"delivery.commit_interval_seconds": 3600}
    send(settings, [Record(json.dumps(event("a", h)).encode()) for h in (1, 2)])
    with running(tmp_path, settings) as streamer:
        streamer.await_consumed(2)
        cluster.brokers[0].kill()
        assert streamer.get("/healthz") is not None
        assert streamer.stop() == 0
        assert "event=drain_cut_short" in streamer.log
    cluster.brokers[0].start()
    with running(tmp_path, settings) as streamer:
        streamer.await_consumed(2)
        assert streamer.stop() == 0
    assert [json.loads(r.value)["origin"] // HOUR for r in published(settings)] == [1, 2]


def test_a_signal_while_it_waits_for_a_broker_ends_it_at_once(settings, tmp_path):
    with running(
        tmp_path, settings | {"kafka.bootstrap_servers": "127.0.0.1:1", "kafka.connect_timeout_seconds": 600}
    ) as s:
        eventually(lambda: s.get("/healthz"), "its probes answer")
        assert s.stop() == 0


def test_metrics_and_probes_answer_while_it_runs(settings, tmp_path):
    send(settings, [Record(json.dumps(event("a", h)).encode()) for h in (1, 2)])
    with running(tmp_path, settings) as streamer:
        streamer.await_ready()
        streamer.await_consumed(2)
        assert streamer.get("/healthz") is not None
        assert streamer.metric("streamer_active_streams") == 1
        assert streamer.metric("streamer_assigned_partitions") == PARTITIONS
        assert streamer.metric("streamer_inference_seconds_count") > 0


def test_a_daemon_that_no_partition_is_left_for_is_ready_and_its_turns_are_progress(settings, tmp_path):
    settings |= {"input.topics": [create_topic(settings["kafka.bootstrap_servers"], "events", partitions=1)]}
    with running(tmp_path, settings) as first, running(tmp_path, settings, "second") as second:
        first.await_ready()
        second.await_ready()
        served = lambda: [int(each.metric("streamer_assigned_partitions")) for each in (first, second)]  # noqa: E731
        eventually(lambda: sum(served()) == 1, "one of them serves the partition")
        idle = (first, second)[served().index(0)]
        since: list[float] = []

        def goes_back() -> bool:
            since.append(idle.metric("streamer_since_progress_seconds"))
            return any(later < earlier for earlier, later in pairwise(since))

        eventually(goes_back, "the idle one makes progress")
        assert idle.get("/readyz") is not None


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("kafka.group", "x", "STREAMER_KAFKA__GROUP"),
        ("input.topics", ["absent-topic"], "input.topics: topic 'absent-topic' does not exist"),
        ("output.topic", "absent-topic", "output.topic: topic 'absent-topic' does not exist"),
        ("output.dead_letter_topic", "absent-topic", "output.dead_letter_topic: topic 'absent-topic' does not exist"),
        ("kafka.bootstrap_servers", "127.0.0.1:1", "kafka.bootstrap_servers: no broker answered at '127.0.0.1:1'"),
        ("model.path", "absent.onnx", "model.path: cannot read 'absent.onnx'"),
        ("model.providers", ["CUDAExecutionProvider"], "model.providers"),
    ],
)
def test_a_wrong_setting_ends_it_with_2_before_the_first_event(settings, tmp_path, setting, value, message):
    status, log = exit_of(tmp_path, {"kafka.connect_timeout_seconds": 2, **settings, setting: value})
    assert (status, "Traceback" in log) == (2, False), log
    assert message in log
