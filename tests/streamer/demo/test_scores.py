"""The demo's scores and tables, on an example small enough to work out by hand."""

import json
import math
from collections import Counter

import numpy as np
import pytest

from streamer.core.events import Partition, Records
from streamer.core.forecasts import Forecasts
from streamer.demo import UNITS, report
from streamer.demo.forecasts import ScoredForecasts
from streamer.demo.score import Comparison, Scores, compare, mean
from streamer.demo.year import HOUR_MS, Year, observed
from streamer.replay import Tally

DAY_MS = 24 * HOUR_MS
LEVELS = (0.1, 0.5, 0.9)


def line(stream: str, hour: int, value: float | None) -> bytes:
    return json.dumps({"stream": stream, "ts": hour * HOUR_MS, "value": value}).encode() + b"\n"


def test_events_become_hours_with_gaps_and_nulls_missing():
    lines = [line("b/x", 100, 1.0), line("a/x", 101, 2.0), line("b/x", 103, None), line("b/x", 104, 4.0)]
    year = observed(lines, test_begin_ms=103 * HOUR_MS)
    assert year.streams == ("a/x", "b/x")
    assert (year.start_ms, year.test, year.events) == (100 * HOUR_MS, 3, 4)
    nan = math.nan
    np.testing.assert_array_equal(year.values, [[nan, 2, nan, nan, nan], [1, nan, nan, nan, 4]])
    assert f"{year.time(4):%d %H:%M}" == "05 08:00"


def test_of_two_events_in_an_hour_the_first_counts():
    assert observed([line("a/x", 1, 5.0), line("a/x", 1, 6.0)]).values == [[5.0]]


def a_year() -> Year:
    """Two streams: four days of history with 0, 10, 0, 10 all day, and a test day of 12 (a) and 20 (b)."""
    history = np.repeat([0.0, 10.0, 0.0, 10.0], 24)
    return Year(("a/x", "b/x"), 0, np.array([[*history, *[12.0] * 24], [*history, *[20.0] * 24]]), 96, 240)


def forecasts(made: list[int], median: float) -> ScoredForecasts:
    """Forecasts two hours ahead, ± 5 around a median, from some hours of the test."""
    mask = np.zeros((2, 24), bool)
    mask[:, made] = True
    quantiles = np.broadcast_to(np.array([median - 5, median, median + 5], np.float32), (2, 24, 2, 3))
    return ScoredForecasts(LEVELS, mask, quantiles)


def test_scores_are_those_worked_out_by_hand():
    scores = compare(a_year(), forecasts(made=[0, 1, 2], median=13))
    # the scale is 10, the change from day to day; naive repeats 10, its errors are ±10 and its quantiles -10, 10, 10
    a = scores["a/x"]
    assert a.model.mase == pytest.approx(1 / 10)
    assert a.model.pinball == pytest.approx((0.1 * 4 + 0.5 * 1 + 0.1 * 6) / 3)
    assert a.model.coverage == 1.0
    assert a.naive.mase == pytest.approx(2 / 10)
    assert a.naive.pinball == pytest.approx((0.1 * 12 + 0.5 * 8 + 0.1 * 8) / 3)
    assert a.naive.coverage == 1.0
    b = scores["b/x"]
    assert b.model.mase == pytest.approx(7 / 10)
    assert b.model.coverage == 0.0
    assert b.naive.mase == pytest.approx(10 / 10)


def test_a_score_over_streams_is_the_mean_of_theirs():
    both = mean(list(compare(a_year(), forecasts(made=[0], median=13)).values()))
    assert both.model.mase == pytest.approx((0.1 + 0.7) / 2)
    assert both.model.coverage == 0.5


def test_leads_past_the_end_of_the_data_are_not_scored():
    last_two = compare(a_year(), forecasts(made=[22, 23], median=13))
    assert last_two["a/x"].model.mase == pytest.approx(0.1)
    assert math.isnan(compare(a_year(), forecasts(made=[23], median=13))["a/x"].model.mase)


def test_a_forecast_that_is_nan_spoils_the_score_instead_of_dropping_out():
    broken = forecasts(made=[0, 1], median=13)
    quantiles = broken.quantiles.copy()
    quantiles[0, 0] = np.nan
    scores = compare(a_year(), ScoredForecasts(LEVELS, broken.made, quantiles))
    assert math.isnan(scores["a/x"].model.mase)
    assert scores["b/x"].model.mase == pytest.approx(0.7)


def test_only_forecasts_from_the_test_on_are_kept_each_at_its_stream_and_hour():
    year = a_year()
    batch = Forecasts(
        Records(Partition("file", 0), range(3), None, [None] * 3, [b""] * 3),
        np.arange(3),
        ["b/x", "a/x", "b/x"],
        np.array([1, 0, 1]),
        np.zeros(3, bool),
        np.array([95, 96, 100]) * HOUR_MS,
        np.ones(3, bool),
        np.ones(3, bool),
        np.arange(18, dtype=np.float32).reshape(3, 2, 3),
        [],
    )
    kept = ScoredForecasts(LEVELS, np.zeros((2, 24), bool), np.zeros((2, 24, 2, 3), np.float32))
    kept.keep(batch, year)
    assert np.argwhere(kept.made).tolist() == [[0, 0], [1, 4]]
    np.testing.assert_array_equal(kept.quantiles[0, 0], batch.quantiles[1])
    np.testing.assert_array_equal(kept.quantiles[1, 4], batch.quantiles[2])


# the tables


def cells(text: str, first: str) -> list[str]:
    """The row of a printed table whose first cell is `first`."""
    row = next(row for row in text.splitlines() if row.strip("│ ").startswith(first))
    return [cell.strip() for cell in row.strip("│").split("│")]


def test_the_score_table_shows_each_variable_s_mean_and_all_of_them(capsys):
    scores = {
        f"{airport}/{variable}": Comparison(Scores(v + a, 2 * v, 0.7 + a), Scores(v + 1, 2 * v + 1, 0.6))
        for v, variable in enumerate(UNITS)
        for airport, a in (("EWR", 0.0), ("JFK", 0.1), ("LGA", 0.2))
    }
    report.print_scores(scores, LEVELS)
    shown = capsys.readouterr().out
    assert cells(shown, "temp") == ["temp °F", "0.100", "1.000", "0.000", "1.000", "80.0%", "60.0%"]
    assert cells(shown, "visib") == ["visib miles", "5.100", "6.000", "10.000", "11.000", "80.0%", "60.0%"]
    assert cells(shown, "all") == ["all", "2.600", "3.500", "", "", "80.0%", "60.0%"]
    assert "seasonal naive (24 h)" in shown
    assert "quantiles of its own errors" in shown
    assert "levels 0.1, 0.5, 0.9" in shown


def test_the_replay_table_counts_rejections_by_reason(capsys):
    report.print_replay(Tally(consumed=20_000, accepted=19_990, rejected=Counter(late=7, duplicate=3)), seconds=0.5)
    assert cells(capsys.readouterr().out, "20,000") == ["20,000", "19,990", "3 duplicate, 7 late", "40,000"]
    report.print_replay(Tally(consumed=10, accepted=10), seconds=1)
    assert cells(capsys.readouterr().out, "10") == ["10", "10", "none", "10"]
