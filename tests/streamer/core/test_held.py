"""Rows hold what was written to them last, wherever they came from: reserved at once, or added later."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.contract import StateSpec
from streamer.core.held import HeldHere

SPECS = [StateSpec("a", np.dtype(np.float32), (2,)), StateSpec("b", np.dtype(np.int64), ())]
ROWS = 3  # reserved
STEPS = st.one_of(
    st.tuples(st.just("grow"), st.integers(1, 3)),
    st.tuples(st.just("write"), st.lists(st.integers(0, 30), unique=True, max_size=8)),
)


@given(st.lists(STEPS, max_size=12), st.data())
def test_a_row_holds_what_was_written_last(steps, data):
    held, rows, written = HeldHere(SPECS, ROWS), ROWS, {}
    for number, (what, value) in enumerate(steps, start=1):
        if what == "grow":
            held.grow(value)
            rows += value
            continue
        at = np.array([row for row in value if row < rows], np.int64)
        held.write(at, [np.stack([at, at + number], axis=1).astype(np.float32), at * number])
        written |= {int(row): ([row, row + number], row * number) for row in at}
    known = data.draw(st.lists(st.sampled_from(sorted(written)), max_size=8) if written else st.just([]))
    for a, b, row in zip(*held.read(np.array(known, np.int64)), known, strict=True):
        assert (a.tolist(), int(b)) == written[row]
    fresh = np.array([i % 2 == 0 for i in range(len(known))], bool)
    for a, b, row, is_fresh in zip(*held.take(np.array(known, np.int64), fresh), known, fresh, strict=True):
        assert (a.tolist(), int(b)) == (([0, 0], 0) if is_fresh else written[row])


def test_more_rows_leave_those_that_are_there_where_they_are():
    held = HeldHere(SPECS, ROWS)
    before = [tensor.ctypes.data for tensor in held._chunks[0]]
    held.grow(1_000)
    assert [tensor.ctypes.data for tensor in held._chunks[0]] == before
    assert held.bytes_per_row == 16
