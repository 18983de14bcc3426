"""A stream's state survives its record, and nothing else is taken for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.contract import StateSpec
from streamer.core.snapshot import Kind, SnapshotFormat, Snapshots

PRINT = "ab" * 32
STATES = [
    StateSpec("h", np.dtype("float32"), (3,)),
    StateSpec("ring", np.dtype("float16"), (2, 2)),
    StateSpec("steps", np.dtype("int64"), ()),
    StateSpec("full", np.dtype("bool"), (1,)),
]
FORMAT = SnapshotFormat(PRINT, STATES, categories=2)


def some(n, seed=0):
    random = np.random.default_rng(seed)
    numbers = random.integers(-(2**62), 2**62, (3, n))
    codes = random.integers(0, 9, (n, 2))
    states = [random.normal(size=(n, *s.shape)).astype(s.dtype) for s in STATES]
    return Snapshots(*numbers, codes, states)


def assert_same(found, expected):
    for name in ("last_slot", "age", "covers", "codes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for a, b in zip(found.states, expected.states, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@given(n=st.integers(0, 5), seed=st.integers(0, 99))
def test_what_is_written_is_read_back(n, seed):
    values = FORMAT.encode(some(n, seed))
    assert {len(v) for v in values} <= {FORMAT.bytes_per_snapshot}
    found, kinds = FORMAT.decode(values)
    assert kinds == [Kind.OWN] * n
    assert_same(found, some(n, seed))


def test_a_model_without_states_has_snapshots_too():
    plain = SnapshotFormat(PRINT, [], categories=0)
    one = Snapshots(*np.array([[5], [2], [7]]), np.zeros((1, 0), np.int64), [])
    found, kinds = plain.decode(plain.encode(one))
    assert kinds == [Kind.OWN]
    assert_same(found, one)


def test_any_changed_byte_or_missing_tail_is_noticed():
    (value,) = FORMAT.encode(some(1))
    for at in range(len(value)):
        changed = bytearray(value)
        changed[at] ^= 1
        assert FORMAT.decode([bytes(changed)])[1] == [Kind.CORRUPT]
        assert FORMAT.decode([value[:at]])[1] == [Kind.CORRUPT]


@pytest.mark.parametrize(
    "other", [SnapshotFormat("cd" * 32, STATES, categories=2), SnapshotFormat("cd" * 32, STATES[:2], categories=0)]
)
def test_another_models_snapshot_is_told_from_damage_and_left_out(other):
    values = [*FORMAT.encode(some(1, 1)), *other.encode(Snapshots(*np.ones((3, 1), np.int64), *other_columns(other)))]
    found, kinds = FORMAT.decode([values[1], values[0]])
    assert kinds == [Kind.FOREIGN, Kind.OWN]
    assert_same(found, some(1, 1))


def other_columns(other):
    states = STATES if other.bytes_per_snapshot == FORMAT.bytes_per_snapshot else STATES[:2]
    codes = 2 if states is STATES else 0
    return np.zeros((1, codes), np.int64), [np.zeros((1, *s.shape), s.dtype) for s in states]


def test_the_format_is_the_one_written_down():
    one = SnapshotFormat("00" * 31 + "ff", [StateSpec("h", np.dtype("float32"), (1,))], categories=1)
    (value,) = one.encode(Snapshots(*np.array([[5], [2], [7]]), np.array([[3]]), [np.array([[1.5]], np.float32)]))
    numbers = "050000000000000002000000000000000700000000000000"
    golden = "544301" + "00" * 31 + "ff" + numbers + "01" + "0300000000000000" + "01" + "0168" + "033c6634" + "04000000"
    assert value[:-4].hex() == golden + "0000c03f"
