"""`training collect` against a real broker, and its decoding without one."""

import json

import polars as pl
import pytest

from streamer.core.decoding import Limits
from streamer.core.events import Partition, Records
from streamer.core.fields import Layout
from tests.integration.conftest import KAFKA_PYTHON_WARNINGS, bootstrap, launcher  # noqa: F401, fixtures
from tests.integration.records import Record, create_topic, produce
from tests.training.conftest import config_of
from training.__main__ import main
from training.collect import Columns
from training.data import load_series

HOUR = 3_600_000
pytestmark = [pytest.mark.filterwarnings(w) for w in KAFKA_PYTHON_WARNINGS]


def line(stream, hour, value, **more):
    return json.dumps({"stream": stream, "ts": hour * HOUR, "value": value, **more}).encode()


def test_rows_are_what_the_daemon_would_understand_and_the_rest_is_counted_by_reason():
    values = [line("a", 1, 2.0, covariates={"temp": 7}, static={"site": "north"}), b"no", line("a", 2, None), None]
    records = Records(Partition("t", 0), range(4), [-1] * 4, [None] * 4, values)
    frame, rejected = Columns(Layout(), ["temp"], ["site"], Limits()).decode(records)
    assert frame.rows() == [("a", HOUR, 2.0, 7.0, "north"), ("a", 2 * HOUR, None, None, None)]
    assert frame.columns == ["stream", "ts", "value", "temp", "site"]
    assert rejected == {"not_json": 1, "not_object": 1}


def test_another_layout_is_found_by_its_paths():
    layout = Layout(stream=("$key",), ts=("at",), ts_unit="s", value=("v", "x"), covariates={"temp": ("t",)})
    records = Records(Partition("t", 0), [0], [-1], [b"k"], [b'{"at": 5, "v": {"x": 1.5}, "t": 3}'])
    frame, _ = Columns(layout, [], [], Limits()).decode(records)
    assert frame.rows() == [("k", 5000, 1.5, 3.0)]


def test_a_topic_becomes_tidy_parquet_that_training_reads(bootstrap, tmp_path, monkeypatch, capfd):  # noqa: F811
    monkeypatch.setattr("training.collect.ROWS_PER_FILE", 5)
    monkeypatch.setattr("training.collect.POLL_RECORDS", 4)
    topic = create_topic(bootstrap, "history", partitions=2)
    sent = [Record(line(s, hour, hour + 0.5), partition=p) for p, s in enumerate("ab") for hour in range(10)]
    produce(bootstrap, topic, [*sent, Record(b"broken", partition=1)])
    folder = tmp_path / "history"
    flags = ["--kafka.bootstrap_servers", bootstrap, "--input.topics", topic]
    assert main(["collect", "--output", str(folder), *flags]) == 0
    assert "20 events" in capfd.readouterr().err
    assert len(list(folder.iterdir())) > 1
    assert pl.read_parquet(folder / "*.parquet").columns == ["stream", "ts", "value"]
    a, b = load_series(folder / "*.parquet", config_of())
    assert (a.stream, b.stream) == ("a", "b")
    assert a.target.tolist() == [hour + 0.5 for hour in range(10)]
    assert [s.stream for s in load_series(folder, config_of())] == ["a", "b"]
    assert main(["collect", "--output", str(tmp_path / "new"), *flags[:3], "absent-topic"]) == 2
    assert "does not exist" in capfd.readouterr().err


def test_a_folder_that_holds_an_earlier_collection_is_refused_before_anything_is_read(tmp_path, capfd):
    (tmp_path / "part-00003.parquet").touch()
    flags = ["--kafka.bootstrap_servers", "127.0.0.1:1", "--input.topics", "t"]
    assert main(["collect", "--output", str(tmp_path), *flags]) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "holds 1 parts of an earlier collection, part-00003.parquet first; name another folder" in said


def test_flags_that_no_command_knows_are_refused(capfd):
    with pytest.raises(SystemExit):
        main(["events", "data.csv", "--input.topics", "x"])
    assert "unrecognized arguments" in capfd.readouterr().err


def test_a_wrong_setting_is_refused_by_name(tmp_path, capfd):
    assert main(["collect", "--output", str(tmp_path), "--input.topics", "t", "--kafka.bootstrap", "x"]) == 2
    assert "kafka.bootstrap" in capfd.readouterr().err
