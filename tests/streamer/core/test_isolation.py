"""A state is broken when it holds a number that is not finite or has exploded, whatever its type."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streamer.core.isolation import are_sound, broken_rows

FLOATS = {"float16": 16, "float32": 32, "float64": 64}


@st.composite
def states(draw):
    """A few state tensors of any type, with ordinary, huge and impossible numbers."""
    rows = draw(st.integers(1, 3))
    tensors = []
    for kind in draw(st.lists(st.sampled_from([*FLOATS, "int64", "bool"]), min_size=1, max_size=3)):
        shape = (rows, *draw(st.sampled_from([(), (2,), (2, 2)])))
        odd = [np.nan, np.inf, -np.inf, *np.array([9e35, -9e35, 2e36, -2e36, 6e4]).clip(*limits(kind)).tolist()]
        numbers = st.floats(-9, 9, width=FLOATS[kind]) | st.sampled_from(odd) if kind in FLOATS else None
        tensors.append(draw(arrays.arrays(kind, shape, elements=numbers)))
    return tensors


def limits(kind):
    """The least and largest number of a type of floats, or those of the widest."""
    found = np.finfo(kind if kind in FLOATS else "float64")
    return float(found.min), float(found.max)


@given(states())
def test_rows_with_a_number_that_is_not_finite_or_exploded_are_broken(tensors):
    expected = [
        any(t.dtype.kind == "f" and not (np.abs(t[row].astype(np.float64)) < 1e36).all() for t in tensors)
        for row in range(len(tensors[0]))
    ]
    assert broken_rows(tensors).tolist() == expected
    assert are_sound(tensors) == (not any(expected))


@pytest.mark.parametrize("number", [65504, -65504])
def test_the_largest_number_of_a_float16_is_sound(number):
    state = np.full((1, 2), number, np.float16)
    assert are_sound([state])
    assert not broken_rows([state]).any()
