"""When the next transaction begins."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.pace import Pace

seconds = st.floats(0, 1e6)


def test_a_transaction_begins_an_interval_after_the_one_before():
    pace = Pace(0.1, now=5.0)
    assert round(pace.left(5.0), 6) == 0.1
    pace.begin(7.0)
    assert round(pace.left(7.04), 6) == 0.06
    assert pace.left(7.2) == 0


def test_without_a_backlog_it_begins_earlier_by_what_transactions_take():
    pace = Pace(0.1, now=0.0)
    for _ in range(100):
        pace.took(0.02)
    assert round(pace.left(0.0), 4) == 0.08
    pace.behind = True
    assert pace.left(0.0) == 0.1


def test_the_less_alike_they_are_the_earlier_it_begins():
    pace = Pace(0.1, now=0.0)
    for i in range(100):
        pace.took(0.015 if i % 2 else 0.025)
    assert 0.05 < pace.left(0.0) < 0.07


@given(interval=st.floats(0.001, 3600), took=st.lists(seconds), behind=st.booleans(), now=seconds)
def test_it_never_waits_longer_than_the_interval_nor_begins_before_half_of_it(interval, took, behind, now):
    pace = Pace(interval, now=0.0)
    for each in took:
        pace.took(each)
    pace.behind = behind
    left = pace.left(now)
    assert 0 <= left <= interval
    assert left >= interval / 2 - now - 1e-9
