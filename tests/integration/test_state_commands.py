"""`streamer state show` and `reset` around a real daemon: what it saved is shown, what no longer fits is given up."""

import json
import uuid

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.structs import OffsetAndMetadata

from tests import models
from tests.drive import event
from tests.integration.commands import streamer
from tests.integration.daemon import exit_of, running
from tests.integration.records import Record, create_topic, produce, read_committed
from tests.integration.waiting import eventually

PARTITIONS = 2
STREAMS = 6


@pytest.fixture
def settings(bootstrap, tmp_path, kafka_client):
    model = models.save(models.echo(horizon=1, static={"site": ("north", "south")}), tmp_path / "echo.onnx")
    return {
        "model.path": str(model),
        "kafka.client": kafka_client,
        "kafka.bootstrap_servers": bootstrap,
        "kafka.group_id": f"group-{uuid.uuid4().hex[:8]}",
        "input.topics": create_topic(bootstrap, "events", PARTITIONS),
        "output.topic": create_topic(bootstrap, "forecasts", PARTITIONS),
    }


def send(settings, hours):
    """One event an hour for each stream, half of the streams in each partition."""
    produce(
        settings["kafka.bootstrap_servers"],
        settings["input.topics"],
        [
            Record(json.dumps(event(f"s{n}", hour, hour, static={"site": "south"})).encode(), partition=n % PARTITIONS)
            for hour in hours
            for n in range(STREAMS)
        ],
    )


def forecasts(settings):
    return read_committed(settings["kafka.bootstrap_servers"], settings["output.topic"])


def run(settings, folder, expected):
    """Run a daemon until so many forecasts are there in all, partition by partition; the forecasts."""
    with running(folder, settings) as daemon:
        eventually(lambda: daemon.process.poll() is not None or len(forecasts(settings)) >= expected, "forecasts", 120)
        assert daemon.process.poll() is None, daemon.log
        assert daemon.stop() == 0, daemon.log
    found = forecasts(settings)
    assert len(found) == expected
    return [json.loads(record.value) for record in found]


def move_offsets(settings, offset):
    """What an operator does with `kafka-consumer-groups.sh --reset-offsets`."""
    offsets = {
        TopicPartition(settings["input.topics"], n): OffsetAndMetadata(offset, "", -1) for n in range(PARTITIONS)
    }
    with KafkaAdminClient(bootstrap_servers=settings["kafka.bootstrap_servers"]) as admin:
        admin.alter_group_offsets(settings["kafka.group_id"], offsets)


def test_what_a_daemon_saved_of_a_stream_is_shown(settings, tmp_path, capsys):
    send(settings, range(1, 6))
    run(settings, tmp_path, expected=5 * STREAMS)
    status, text = streamer(capsys, settings, "state", "show", "s3")
    assert status == 0
    topic = settings["input.topics"]
    assert f"{topic}-1: 's3', snapshot at offset" in text
    assert "the configured one" in text
    assert "last slot   5 = 1970-01-01T05:00:00Z" in text
    assert "age         5 steps since it began fresh, warm" in text
    assert "site=south" in text
    assert "below input offset 15; committed 15, low-water mark 15" in text
    assert "last float32 (1,)  norm 5  min 5  max 5  last values 5" in text
    status, text = streamer(capsys, settings, "state", "show", "s99")
    assert status == 1
    assert "'s99': no snapshot in the changelogs" in text


def test_after_a_reset_a_daemon_starts_where_offsets_were_moved_by_hand(settings, tmp_path, capsys):
    send(settings, range(1, 6))
    run(settings, tmp_path, expected=5 * STREAMS)
    move_offsets(settings, 9)
    status, log = exit_of(tmp_path, settings)
    assert status == 1
    assert "streamer state reset" in log

    status, text = streamer(capsys, settings, "state", "reset", "--yes")
    assert status == 0, text
    assert f"{STREAMS} streams will start fresh" in text
    assert "3 snapshots, goes on at offset 9; committed by somebody else, metadata ''; 3 snapshots cover more" in text
    assert f"done: {STREAMS} streams forgotten, {PARTITIONS} positions committed" in text
    assert "'s3' was forgotten, tombstone at" in streamer(capsys, settings, "state", "show", "s3")[1]

    again = run(settings, tmp_path, expected=7 * STREAMS)[-2:]
    # fresh at offset 9, the fourth hour: echo's last value, 1000 for each of the site's code 2, and the steps since
    assert {(each["origin"] // 3_600_000, each["quantiles"]["0.5"][0]) for each in again} == {(5, 5 + 2000 + 2)}
    assert streamer(capsys, settings, "doctor")[0] == 0


def test_after_a_reset_a_daemon_starts_without_offsets_too(settings, tmp_path, capsys):
    send(settings, range(1, 4))
    run(settings, tmp_path, expected=3 * STREAMS)
    partitions = [TopicPartition(settings["input.topics"], n) for n in range(PARTITIONS)]
    with KafkaAdminClient(bootstrap_servers=settings["kafka.bootstrap_servers"]) as admin:
        admin.delete_group_offsets(settings["kafka.group_id"], partitions)
    assert "no position is committed, but the changelog holds snapshots" in streamer(capsys, settings, "doctor")[1]
    status, text = streamer(capsys, settings, "state", "reset", "--yes")
    assert status == 0
    assert "no position is committed, so it begins at input.start (earliest)" in text
    run(settings, tmp_path, expected=6 * STREAMS)


def test_a_reset_is_refused_while_the_daemon_runs(settings, tmp_path, capsys):
    send(settings, range(1, 3))
    with running(tmp_path, settings) as daemon:
        daemon.await_ready()
        status, text = streamer(capsys, settings, "state", "reset", "--yes")
        assert status == 1
        assert "has 1 members: " in text
        assert "stop them" in text
        assert daemon.stop() == 0


def test_a_reset_that_nobody_confirms_changes_nothing(settings, tmp_path, capsys, monkeypatch):
    send(settings, range(1, 3))
    run(settings, tmp_path, expected=2 * STREAMS)
    for answer in ("n", None):
        monkeypatch.setattr("builtins.input", answering(answer))
        status, text = streamer(capsys, settings, "state", "reset")
        assert status == 1
        assert "nothing was changed" in text
    assert streamer(capsys, settings, "state", "show", "s3")[0] == 0
    monkeypatch.setattr("builtins.input", answering("y"))
    assert streamer(capsys, settings, "state", "reset")[0] == 0


def answering(text):
    def answer(_question):
        if text is None:
            raise EOFError
        return text

    return answer


def test_more_streams_than_one_transaction_takes_are_reset_in_several(settings, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("streamer.adapters.kafka_python.resetting.TRANSACTION_KEYS", 2)
    send(settings, range(1, 3))
    run(settings, tmp_path, expected=2 * STREAMS)
    assert streamer(capsys, settings, "state", "reset", "--yes")[0] == 0
    for n in range(STREAMS):
        assert "was forgotten" in streamer(capsys, settings, "state", "show", f"s{n}")[1]
