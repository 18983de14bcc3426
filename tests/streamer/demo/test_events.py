"""The packed events: what they hold, how they are made, and how `streamer demo --events` prints them."""

import gzip
import io
import json
from collections import Counter
from itertools import pairwise

import pytest

from streamer.demo import EVENTS_PATH, UNITS
from streamer.demo.command import write_events
from training import demo_data

HEADER = "origin,temp,dewp,humid,wind_speed,pressure,visib,time_hour\n"


@pytest.fixture(scope="module")
def packed() -> list[dict]:
    with gzip.open(EVENTS_PATH) as lines:
        return [json.loads(line) for line in lines]


def test_the_packed_year_has_every_row_of_its_source_for_each_variable(packed):
    assert len(packed) == 26_115 * 6
    assert Counter(e["stream"].split("/")[1] for e in packed) == dict.fromkeys(UNITS, 26_115)
    assert {e["stream"].split("/")[0] for e in packed} == {"EWR", "JFK", "LGA"}
    assert sum(e["value"] is None for e in packed) == 2_736


def test_the_packed_events_are_in_order_of_time_then_stream_and_none_comes_twice(packed):
    assert all((a["ts"], a["stream"]) < (b["ts"], b["stream"]) for a, b in pairwise(packed))


def test_the_hours_are_utc_and_run_through_both_changes_of_daylight_saving_time(packed):
    hours = {e["ts"] // 3_600_000 for e in packed if e["stream"] == "EWR/temp"}
    spring, autumn = 1_362_898_800, 1_383_458_400  # 10 March, 3 a.m. EDT; 3 November, the second 1 a.m.: 07 and 06 UTC
    for change in (spring, autumn):
        assert all(change // 3600 + hour in hours for hour in range(-1, 4))


def test_the_absurd_wind_of_12_february_is_kept(packed):
    assert [e for e in packed if e["stream"].endswith("wind_speed") and (e["value"] or 0) > 100] == [
        {"stream": "EWR/wind_speed", "ts": 1_360_656_000_000, "value": 1048.36058}
    ]


def test_a_row_becomes_an_event_per_variable_and_na_becomes_null(tmp_path):
    (tmp_path / "weather.csv").write_text(
        HEADER
        + "JFK,39.02,NA,59.37,10.357019999999999,1012,10,2013-01-01T07:00:00Z\n"
        + "EWR,38,1,2,3,4,5,2013-01-01T06:00:00Z\n"
    )
    demo_data.write_events(tmp_path / "weather.csv", tmp_path / "events.gz")
    lines = gzip.decompress((tmp_path / "events.gz").read_bytes()).decode().splitlines()
    assert len(lines) == 12
    assert lines[0] == '{"stream":"EWR/dewp","ts":1357020000000,"value":1.0}'
    assert lines[6] == '{"stream":"JFK/dewp","ts":1357023600000,"value":null}'
    assert lines[11] == '{"stream":"JFK/wind_speed","ts":1357023600000,"value":10.357019999999999}'


def test_the_same_table_gives_the_same_bytes_whatever_the_file_is_called_and_when(tmp_path):
    (tmp_path / "weather.csv").write_text(HEADER + "EWR,38,1,2,3,4,5,2013-01-01T06:00:00Z\n")
    for name in ("a.gz", "b.gz"):
        demo_data.write_events(tmp_path / "weather.csv", tmp_path / name)
    content = (tmp_path / "a.gz").read_bytes()
    assert content == (tmp_path / "b.gz").read_bytes()
    assert content[4:8] == bytes(4)  # no time of writing


def test_a_source_that_is_not_installed_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(demo_data, "PACKAGE", "no_such_package")
    with pytest.raises(SystemExit, match="pip install --no-deps no_such_package"):
        demo_data.source_path()


def test_events_are_printed_as_they_are_packed():
    sink = io.BytesIO()
    write_events(sink, keyed=False)
    assert sink.getvalue() == gzip.decompress(EVENTS_PATH.read_bytes())


def test_keyed_events_carry_their_stream_before_a_tab():
    sink = io.BytesIO()
    write_events(sink, keyed=True)
    keyed = [line.split(b"\t") for line in sink.getvalue().splitlines()]
    assert len(keyed) == 156_690
    assert all(key.decode() == json.loads(event)["stream"] for key, event in keyed)
