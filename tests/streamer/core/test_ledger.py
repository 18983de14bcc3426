"""The ledger against a dictionary: which streams are dirty since when, whatever is cleaned or forgotten in between."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.arena import Arena
from streamer.core.held import HeldHere
from streamer.core.ledger import Ledger

STREAMS = "abcdef"
ROWS = st.sets(st.sampled_from(STREAMS), max_size=4)
STEPS = st.one_of(
    st.tuples(st.just("changed"), st.lists(st.sampled_from(STREAMS), max_size=5)),
    st.tuples(st.just("clean"), ROWS),
    st.tuples(st.just("forget"), ROWS),
)


@given(st.lists(STEPS, max_size=40), st.sampled_from([1, 4, 1_024]))
def test_a_stream_is_dirty_from_its_first_change_until_it_is_cleaned_or_forgotten(steps, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamer.core.ledger.ROOM", size)
        patch.setattr("streamer.core.ledger.LOOK", size)
        check(steps)


def check(steps) -> None:
    arena = Arena(HeldHere((), len(STREAMS)), 0, len(STREAMS))
    ledger = Ledger(arena)
    row: dict[str, int] = {}
    dirty: dict[str, tuple[int, float]] = {}  # in the order in which they became so
    offset = 0
    for now, (what, streams) in enumerate(steps):
        for stream in streams:
            if stream not in row:
                found = arena.allocate(stream)
                assert found is not None
                row[stream] = found
        rows = np.array([row[stream] for stream in streams], np.int64)
        if what == "changed":
            for i, stream in enumerate(streams):
                dirty.setdefault(stream, (offset + i, now))
            ledger.changed(rows, np.arange(offset, offset + len(streams)), now)
            offset += len(streams) + 1
        else:
            for stream in streams:
                dirty.pop(stream, None)
            if what == "clean":
                ledger.clean(rows)
            else:
                arena.release([row.pop(stream) for stream in streams])
        assert len(ledger) == len(dirty)
        assert ledger.low_water(offset) == min((at for at, _ in dirty.values()), default=offset)
        for limit in (0, 1, 3, 9):
            for before in (now - 2, now):
                due = [row[stream] for stream, (_, since) in dirty.items() if since <= before]
                found, times = ledger.due(before, limit)
                assert found.tolist() == due[:limit]
                since = {row[stream]: at for stream, (_, at) in dirty.items()}
                assert times.tolist() == [since[r] for r in due[:limit]]


def test_entries_that_count_no_more_take_no_memory_though_an_older_one_still_does():
    arena = Arena(HeldHere((), 2), 0, 2)
    arena.admit(["old", "new"])
    ledger = Ledger(arena)
    ledger.changed(np.array([0]), np.array([0]), 0.0)
    tracemalloc.start()
    try:
        for offset in range(1, 50_000):
            ledger.changed(np.array([1]), np.array([offset]), float(offset))
            ledger.clean(np.array([1]))
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
    assert (len(ledger), ledger.low_water(50_000)) == (1, 0)
