"""Tidy data becomes series on the grid, or is refused by file, column and row."""

import gzip
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from streamer.errors import ConfigError
from tests.training.conftest import HOUR, START, config_of, hourly
from training.config import Data, Split
from training.data import load_series, own_season, parts, static_codes, vocabulary
from training.files import data_digest, event_lines, read_events
from training.problems import problem_table, problems_of


def test_an_event_lands_in_the_slot_it_falls_into_and_a_gap_is_missing(tidy):
    path = tidy([("a", START + 5, 1.0), ("a", START + HOUR - 1, 9.0), ("a", START + 3 * HOUR, 4.0)])
    (series,) = load_series(path, config_of())
    assert series.time.tolist() == [START + i * HOUR for i in range(4)]
    assert np.array_equal(series.target, [1.0, np.nan, np.nan, 4.0], equal_nan=True)


def test_the_first_event_of_a_slot_counts_even_if_it_is_null(tidy):
    path = tidy([("a", START + 9, 2.0), ("a", START + 1, None), ("a", START + HOUR, 3.0)])
    (series,) = load_series(path, config_of())
    assert np.array_equal(series.target, [np.nan, 3.0], equal_nan=True)


def test_the_grid_offset_moves_the_slots(tidy):
    path = tidy([("a", START + HOUR // 2 - 1, 1.0), ("a", START + HOUR // 2, 2.0)])
    (series,) = load_series(path, config_of(offset_ms=HOUR // 2))
    assert series.time.tolist() == [START - HOUR // 2, START + HOUR // 2]


def test_per_event_every_time_is_a_step_and_a_repeated_one_a_duplicate(tidy):
    path = tidy([("a", 7, 1.0), ("a", 7, 5.0), ("a", 1000, 2.0), ("a", 1001, 3.0)])
    (series,) = load_series(path, config_of(step_ms=None))
    assert series.time.tolist() == [7, 1000, 1001]
    assert series.target.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl"])
def test_every_format_holds_the_same_series(tidy, name):
    events = [("b", START, 1.5), ("a", START + HOUR, None), ("a", START + 2 * HOUR, -2.0), ("a", START, 3.0)]
    expected = load_series(tidy(events), config_of())
    for found, series in zip(load_series(tidy(events, name), config_of()), expected, strict=True):
        assert found.stream == series.stream
        assert np.array_equal(found.target, series.target, equal_nan=True)
        assert np.array_equal(found.time, series.time)


def test_compressed_lines_and_iso_times_are_read(tmp_path):
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"stream":"a","ts":"2013-01-01T00:00:00Z","value":1}\n'))
    (series,) = load_series(path, config_of())
    assert (series.time.tolist(), series.target.tolist()) == ([START], [1.0])


def test_covariates_and_categories_come_along(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text(
        f"stream,ts,value,temp,site\na,{START},1,20,north\na,{START + HOUR},2,,north\nb,{START},3,21,south\n"
    )
    config = config_of(data={"covariates": ["temp"], "static": ["site"]})
    a, b = load_series(path, config)
    assert a.observed.tolist() == [[1, 1], [1, 0]]
    assert a.value.tolist() == [[1, 20], [2, 0]]
    words = vocabulary([a, b], ["site"])
    assert words == {"site": ("north", "south")}
    assert static_codes([b, a], words).tolist() == [[2], [1]]
    assert static_codes([b], {"site": ("north",)}).tolist() == [[0]]


def test_event_lines_are_in_time_order_and_say_null(tidy):
    lines = event_lines(tidy([("b", 2000, 1.0), ("a", 1000, None), ("a", 2000, 0.5)]), Data())
    assert [json.loads(line) for line in lines] == [
        {"stream": "a", "ts": 1000, "value": None},
        {"stream": "b", "ts": 2000, "value": 1.0},
        {"stream": "a", "ts": 2000, "value": 0.5},
    ]


def test_event_lines_leave_out_covariates_that_are_missing(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"stream":"a","ts":1,"value":2,"temp":null,"wind":3,"site":"north"}\n')
    (line,) = event_lines(path, Data(covariates=("temp", "wind"), static=("site",)))
    assert json.loads(line) == {
        "stream": "a", "ts": 1, "value": 2.0, "covariates": {"wind": 3.0}, "static": {"site": "north"}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ({"train_end": 8, "validation_end": 11, "end": 14}, (8, 11, 14)),
        ({"train_end": 0.8, "validation_end": 0.9, "end": -4}, (12, 14, 16)),
        ({"train_end": 0.5, "validation_end": -6}, (10, 14, 20)),
        ({"train_end": "2013-01-01T05:00", "validation_end": "2013-01-01T06:30:00Z"}, (5, 7, 20)),
    ],
)
def test_borders_are_steps_shares_or_times(split, expected):
    found = parts(hourly(20), Split(**split))
    assert (found.train, found.validation, found.end) == expected


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ({"train_end": 30, "validation_end": 40}, (20, 20, 20)),
        ({"train_end": -30, "validation_end": -25}, (0, 1, 20)),
        ({"train_end": -8, "validation_end": -4, "end": 90}, (12, 16, 20)),
        ({"train_end": "2012-12-01", "validation_end": "2012-12-02"}, (0, 1, 20)),
        ({"train_end": 0.01, "validation_end": 0.02, "end": -20}, (0, 1, 1)),
    ],
)
def test_a_stream_that_a_border_does_not_reach_has_less_or_nothing_of_a_part(split, expected):
    found = parts(hourly(20), Split(**split))
    assert (found.train, found.validation, found.end) == expected


@pytest.mark.parametrize("split", [{"train_end": 12, "validation_end": 9}, {"train_end": "soon"}])
def test_borders_out_of_order_are_refused(split):
    with pytest.raises(ConfigError, match="split"):
        parts(hourly(20), Split(**split))


def test_a_wrong_file_or_column_is_refused_by_name(tidy, tmp_path):
    good = tidy([("a", START, 1.0)])
    with pytest.raises(ConfigError, match=r"no column 'load'.*found stream, ts, value"):
        read_events(good, Data(value="load"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_events(tmp_path / "absent.csv", Data())
    (tmp_path / "other.csv").write_text("stream;ts;value\na;1;2\n")
    with pytest.raises(ConfigError, match="expected columns separated by commas"):
        read_events(tmp_path / "other.csv", Data())
    with pytest.raises(ConfigError, match=r"ending in \.parquet"):
        read_events(tidy([("a", START, 1.0)]).rename(tmp_path / "data.txt"), Data())
    (tmp_path / "broken.parquet").write_bytes(b"no")
    with pytest.raises(ConfigError, match="not the parquet"):
        read_events(tmp_path / "broken.parquet", Data())


def test_a_packed_file_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"stream":"a","ts":1,"value":1}\n')[:-9])
    with pytest.raises(ConfigError, match="cannot be read: "):
        read_events(path, Data())


@pytest.mark.parametrize("name", ["data.parquet", "data.csv"])
def test_an_infinite_number_is_refused_with_its_column_and_row(tidy, name):
    path = tidy([("a", START + HOUR, 1.0), ("a", START, None), ("b", 5, -np.inf), ("b", 6, np.inf)], name)
    with pytest.raises(ConfigError, match=r"column 'value' is -inf in row 3, infinite in 2 rows, expected finite"):
        read_events(path, Data())


def test_an_infinite_covariate_is_refused_by_its_name(tmp_path):
    (tmp_path / "data.csv").write_text("stream,ts,value,temp\na,1,2,3\na,2,2,inf\n")
    with pytest.raises(ConfigError, match="column 'temp' is inf in row 2"):
        read_events(tmp_path / "data.csv", Data(covariates=("temp",)))


def test_a_step_far_too_small_is_refused_before_it_fills_the_memory(tidy):
    path = tidy([("a", START, 1.0), ("a", START + 10**9, 1.0)])
    with pytest.raises(ConfigError, match="step_ms: 1 puts the 2 events"):
        load_series(path, config_of(step_ms=1))


def test_a_stream_that_is_heard_of_again_after_a_year_stops_nothing(tidy):
    path = tidy([("a", START + i * HOUR, 1.0) for i in range(5)] + [("b", START, 1.0), ("b", START + 8760 * HOUR, 2.0)])
    assert [len(series) for series in load_series(path, config_of())] == [5, 8761]


def test_a_pattern_reads_all_files_it_matches_as_one(tidy, tmp_path):
    tidy([("a", START, 1.0), ("b", START, 5.0)], "part-1.csv")
    tidy([("a", START + HOUR, 2.0)], "part-2.csv")
    a, b = load_series(tmp_path / "part-*.csv", config_of())
    assert (a.target.tolist(), b.target.tolist()) == ([1, 2], [5])
    assert data_digest(tmp_path / "part-*.csv") != data_digest(tmp_path / "part-1.csv")
    for pattern in ("part-?.csv", "part-[12].csv"):
        assert len(load_series(tmp_path / pattern, config_of())) == 2
    with pytest.raises(ConfigError, match="matches no file"):
        load_series(tmp_path / "none-*.csv", config_of())


@pytest.mark.parametrize("name", ["part[1].csv", "part[1].jsonl", "part[1].parquet"])
def test_a_file_whose_name_looks_like_a_pattern_is_read(tidy, tmp_path, name):
    tidy([("a", START, 1.0)], name)
    assert len(load_series(tmp_path / name, config_of())) == 1


def test_a_folder_is_all_files_of_tidy_data_in_it(tidy, tmp_path):
    with pytest.raises(ConfigError, match=r"a folder without a file that ends in \.parquet"):
        load_series(tmp_path, config_of())
    tidy([("a", START, 1.0)], "1.csv")
    tidy([("b", START, 1.0)], "2.parquet")
    (tmp_path / "notes.txt").write_text("no data")
    assert [s.stream for s in load_series(tmp_path, config_of())] == ["a", "b"]
    assert data_digest(tmp_path) != data_digest(tmp_path / "1.csv")


def test_series_kept_on_disk_stay_as_they_are_when_other_data_go_to_the_same_folder(tidy, tmp_path):
    config = config_of(data={"cache": str(tmp_path / "cache")})
    first = load_series(tidy([("a", START + i * HOUR, float(i)) for i in range(300)], "first.parquet"), config)[0]
    load_series(tidy([("a", START, 7.0)], "second.parquet"), config)
    assert first.target.tolist() == list(range(300))


def test_a_row_without_a_stream_is_refused_also_where_series_go_to_disk(tidy, tmp_path):
    config = config_of(data={"cache": str(tmp_path / "cache")})
    with pytest.raises(ConfigError, match="every row needs a 'stream'"):
        load_series(tidy([("a", START, 1.0), (None, START, 2.0)], "nameless.parquet"), config)


def test_series_kept_on_disk_are_the_same_and_come_in_groups(tidy, tmp_path, monkeypatch):
    path = tidy([(stream, START + i * HOUR, float(i)) for i in range(5) for stream in "dacb"])
    monkeypatch.setattr("training.data.ROWS_AT_ONCE", 9)
    expected = load_series(path, config_of())
    found = load_series(path, config_of(data={"cache": str(tmp_path / "cache")}))
    assert [s.stream for s in found] == ["a", "b", "c", "d"]
    for a, b in zip(found, expected, strict=True):
        assert isinstance(a.value.base, np.memmap)
        assert np.array_equal(a.target, b.target)
        assert a.tally == b.tally
    assert len(list((tmp_path / "cache").iterdir())) > 1


def test_what_is_wrong_with_a_stream_is_said_in_one_table(tidy):
    good = [("good", START + i * HOUR, float(i)) for i in range(9)]
    bad = {
        "empty": [(i, None) for i in range(3)],
        "constant": [(i, 4.0) for i in range(5)],
        "double": [(0, 1.0), (0, 2.0), (1, 3.0), (2, 4.0)],
        "backwards": [(2, 1.0), (1, 2.0), (0, 5.0)],
        "wide": [(24 * i, float(i)) for i in range(5)],
    }
    events = good + [(name, START + int(h * HOUR), v) for name, rows in bad.items() for h, v in rows]
    series = load_series(tidy(events), config_of())
    found = {s.stream: "; ".join(problems_of(s)) for s in series}
    assert found["good"] == ""
    assert found["empty"] == "no value at all"
    assert found["constant"] == "constant at 4"
    assert found["double"].startswith("1 duplicates")
    assert found["backwards"].startswith("2 rows out of time order")
    assert "95% of the steps missing" in found["wide"]
    assert "events 86400 s apart, step_ms says 3600 s" in found["wide"]
    table = problem_table(series)
    assert table is not None
    assert table.row_count == 5
    assert problem_table([s for s in series if s.stream == "good"]) is None


def test_times_in_seconds_are_suspected(tidy):
    (series,) = load_series(tidy([("a", START // 1000 + i * 3600, float(i)) for i in range(9)]), config_of())
    assert "all before May 1970: epoch seconds, where milliseconds are expected?" in problems_of(series)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(1_000, "are they microseconds? divide by 1,000"), (1_000_000, "are they nanoseconds? divide by 1,000,000")],
)
def test_times_finer_than_milliseconds_are_refused_as_the_daemon_refuses_them(tidy, ratio, expected):
    path = tidy([("a", (START + i * HOUR) * ratio, float(i)) for i in range(9)])
    with pytest.raises(
        ConfigError, match=r"column 'ts' is \d+ in row 1, and so in 9 rows.*1970 to 9999; " + re.escape(expected)
    ):
        load_series(path, config_of())


def test_a_time_before_1970_is_refused(tidy):
    with pytest.raises(ConfigError, match=r"column 'ts' is -1 in row 2, and so in 1 rows.*; correct them"):
        load_series(tidy([("a", START, 1.0), ("a", -1, 1.0)]), config_of())


def test_numbers_that_the_daemon_would_reject_are_told(tidy):
    (series,) = load_series(
        tidy([("a", START + i * HOUR, 1e16 if i == 3 else float(i)) for i in range(9)]), config_of()
    )
    assert problems_of(series) == ["1 numbers beyond ±1e+15 (the daemon rejects them: input.max_abs)"]


@pytest.mark.parametrize(
    ("minutes", "uneven", "expected"),
    [(60, 0, 24), (5, 0, 288), (30, 0.03, 48), (24 * 60, 0, 7), (60, 0.3, 1), (7 * 24 * 60, 0, 1), (0.5, 0, 1)],
)
def test_a_stream_s_season_is_a_day_or_a_week_of_its_own_steps(minutes, uneven, expected):
    series = hourly(1000)
    steps = np.full(1000, minutes * 60_000)
    steps[: int(1000 * uneven)] *= 3
    assert own_season(replace(series, time=START + np.cumsum(steps).astype(np.int64))) == expected


def test_folds_move_the_borders_along_the_test_part():
    found = [parts(hourly(100), Split(train_end=60, validation_end=70, folds=3, fold=k)) for k in range(3)]
    assert [(p.train, p.validation, p.end) for p in found] == [(60, 70, 80), (70, 80, 90), (80, 90, 100)]
    with pytest.raises(ValueError, match="fold must be less than folds 3, found 3"):
        Split(folds=3, fold=3)
