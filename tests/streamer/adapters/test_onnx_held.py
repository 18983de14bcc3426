"""States held on a device: the same forecasts, snapshots and repairs as states held by the daemon.

onnxruntime's CPU stands for the device here: the same graphs, bindings and copies as on any other.
"""

import weakref
from functools import partial

import numpy as np
import onnxruntime as ort
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from streamer.adapters.onnx_session import OnnxModel
from streamer.adapters.onnx_session.held import HeldOnDevice
from streamer.assembly import engine_for
from streamer.core import arena
from streamer.core.contract import StateSpec
from streamer.core.held import HeldHere
from streamer.demo import MODEL_PATH
from streamer.demo.command import keyed_events
from streamer.errors import ConfigError
from streamer.settings import InputSettings, StateSettings
from tests import models
from tests.drive import EVENTS, assert_same_forecasts, event, new_engine, records, run

KINDS = ["float16", "float32", "float64", "int32", "int64", "bool"]
SPECS = [StateSpec(kind, np.dtype(kind), shape) for kind in KINDS for shape in ((), (3,), (2, 2))]
BAD = -999.0
on_device = partial(HeldOnDevice, device="cpu", providers=["CPUExecutionProvider"])


def held_engine(model, max_streams=100):
    return engine_for(model, InputSettings(), StateSettings(max_streams=max_streams), hold=on_device)


def some(n, seed=1):
    random = np.random.default_rng(seed)
    return [random.integers(0, 2, (n, *s.shape)).astype(s.dtype) for s in SPECS]


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_rows_of_every_type_are_read_as_they_were_written_and_others_stay():
    here, there = HeldHere(SPECS, 9), on_device(SPECS, 9)
    assert there.bytes_per_row == here.bytes_per_row
    for held in (here, there):
        held.write(np.arange(9), some(9))
        held.write(np.array([7, 2]), some(2, seed=2))
        held.write(np.zeros(0, np.int64), some(0))
    assert_equal(there.read(np.arange(9)), here.read(np.arange(9)))
    assert_equal(there.read(np.zeros(0, np.int64)), here.read(np.zeros(0, np.int64)))


def test_what_starts_fresh_is_taken_as_zeros_and_what_was_put_back_is_held():
    held = on_device(SPECS, 4)
    held.write(np.arange(4), some(4))
    rows, fresh = np.array([3, 1]), np.array([False, True])
    taken = held.take(rows, fresh)
    expected = [state[rows] for state in some(4)]
    for state in expected:
        state[1] = 0
    assert_equal(held.fetched(taken), expected)
    assert held.put(np.array([0, 2]), taken)
    assert_equal(held.read(np.array([0, 2])), expected)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, -2e36, 2e36])
def test_a_number_that_is_not_finite_or_exploded_is_noticed(kind, number):
    states = [StateSpec("h", np.dtype(kind), (2,)), StateSpec("n", np.dtype("int64"), ())]
    held = on_device(states, 3)
    held.write(np.arange(3), [np.zeros((3, 2), kind), np.zeros(3, np.int64)])
    sound = held.take(np.array([0, 1]), np.zeros(2, bool))
    assert held.put(np.array([0, 1]), sound)
    with np.errstate(over="ignore"):
        held.write(np.array([1]), [np.array([[1, number]]).astype(kind), np.zeros(1, np.int64)])
    assert not held.put(np.array([0, 1]), held.take(np.array([0, 1]), np.zeros(2, bool)))


def test_room_for_more_keeps_what_there_is():
    held = on_device(SPECS, 2)
    held.write(np.arange(2), some(2))
    held.grow(3)
    held.write(np.array([4]), some(1, seed=3))
    assert_equal(
        held.read(np.array([0, 1, 4])), [np.concatenate(c) for c in zip(some(2), some(1, seed=3), strict=True)]
    )
    assert all((state == 0).all() for state in held.fetched(held.take(np.array([4]), np.array([True]))))


OUT_OF_MEMORY = "bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 4000"


@pytest.mark.parametrize("raised", [RuntimeError, RuntimeException])  # by onnxruntime beside a graph, and in one
@pytest.mark.parametrize("asked", ["ortvalue_from_shape_and_type", "ortvalue_from_numpy"])
def test_more_than_a_device_has_is_a_wrong_setting(monkeypatch, tmp_path, raised, asked):
    def refuse(*_):
        raise raised(OUT_OF_MEMORY + "\nat 0x7f")

    model = OnnxModel(models.save(models.echo(), tmp_path / "echo.onnx"))
    monkeypatch.setattr(ort.OrtValue, asked, staticmethod(refuse))
    with pytest.raises(ConfigError, match=r"^state\.max_streams: found 100, which needs ") as error:
        held_engine(model)
    assert str(error.value).endswith(f"lower it (0.0 GiB for 100 streams on cpu: {OUT_OF_MEMORY})")


def test_what_no_memory_can_hold_is_said_with_its_size():
    with pytest.raises(MemoryError, match=r"^16,384\.0 GiB for 1,099,511,627,776 streams on cpu: std::bad_alloc$"):
        on_device([StateSpec("h", np.dtype("float32"), (4,))], 1 << 40)


def test_the_old_room_is_given_up_before_more_is_taken(monkeypatch):
    held = on_device(SPECS, 2)
    held.write(np.arange(2), some(2))
    take, at_work = ort.OrtValue.ortvalue_from_shape_and_type, []
    old = [weakref.ref(tensor) for tensor in held._held]
    monkeypatch.setattr(
        ort.OrtValue,
        "ortvalue_from_shape_and_type",
        staticmethod(lambda *given: at_work.append([r for r in old if r() is not None]) or take(*given)),
    )
    held.grow(1)
    assert at_work == [[]] * len(SPECS)


def test_states_are_moved_within_the_memory_that_holds_them():
    held = on_device([StateSpec("h", np.dtype("float32"), (4,))], 10)
    (tensor,) = held._held
    before = tensor.data_ptr()
    held.put(np.array([1]), held.take(np.array([2]), np.zeros(1, bool)))
    assert [each.data_ptr() for each in held._held] == [before]


def test_the_demos_forecasts_and_snapshots_are_those_of_states_held_here():
    model = OnnxModel(MODEL_PATH)
    lines = [line for _, line in keyed_events()][:3_000]
    there, here = held_engine(model), new_engine(model)
    for at in range(0, len(lines), 700):
        part = records(lines[at : at + 700], at)
        found, refused = run(there, part)
        expected, rejected = run(here, part)
        assert refused == rejected
        assert_same_forecasts(found, expected)
    rows = here.rows(EVENTS)
    found, expected = there.arena.snapshots(rows, 3_000), here.arena.snapshots(rows, 3_000)
    for a, b in zip(found.states, expected.states, strict=True):
        np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=1e-5, atol=1e-5)
    again = held_engine(model)
    again.restore(EVENTS, [here.arena.stream[row] for row in rows], found)
    assert_same_forecasts(run(again, records(lines[3_000:3_100]))[0], run(there, records(lines[3_000:3_100]))[0])


def test_a_state_that_breaks_is_reset_alone(tmp_path):
    model = OnnxModel(models.save(models.echo(poison=(BAD, np.nan)), tmp_path / "echo.onnx"))
    log = [event("a", 1, 1), event("b", 1, 1), event("b", 2, BAD), event("a", 2, 2), event("b", 3, 3), event("a", 3, 3)]
    there, here = held_engine(model), new_engine(model)
    for part in (log[:4], log[4:]):
        found, expected = (run(engine, records(part))[0] for engine in (there, here))
        assert [(s.stream, s.origin, s.warm) for s in found] == [(s.stream, s.origin, s.warm) for s in expected]
        np.testing.assert_array_equal([s.quantiles for s in found], [s.quantiles for s in expected])


def test_more_restored_streams_than_there_was_room_for_are_held(monkeypatch, tmp_path):
    monkeypatch.setattr(arena, "GROWTH", 1)
    model = OnnxModel(models.save(models.echo(), tmp_path / "echo.onnx"))
    source, small = new_engine(model), held_engine(model, max_streams=1)
    run(source, records([event(name, 1, value) for value, name in enumerate("abc")]))
    small.restore(EVENTS, list("abc"), source.arena.snapshots(source.rows(EVENTS), covers=3))
    log = records([event(name, 2, 9) for name in "abc"])
    assert_same_forecasts(run(small, log)[0], run(source, log)[0])
