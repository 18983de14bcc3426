"""The C library writes what Python writes, byte for byte, and is not needed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streamer.adapters.forecast_text import VERSION, NativeWriter, forecast_writer
from streamer.core.wire import ForecastEncoder, write_lines
from tests.forecasts import forecasts, manifest

ROOT = Path(__file__).parents[3]
SOURCE = "streamer/adapters/forecast_text.c"
NUMBERS = (
    st.floats(width=32, allow_nan=True, allow_infinity=False)
    | st.floats(-2000, 2000, width=32)
    | st.floats(-(2.0**-10), 2.0**-10, width=32)
    | st.integers(-(2**24), 2**24).map(lambda whole: np.float32(whole / 1000))
)


def compiled(root, library):
    """The library of a source tree; skipped without a compiler, as an installation does without it."""
    pytest.importorskip("hatchling", reason="the extra `dev` is not installed")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    if not hook.compiled(root, library):
        pytest.skip("no C compiler")
    return library


@pytest.fixture(scope="session")
def native(tmp_path_factory):
    """The writer, compiled from the present source."""
    return NativeWriter(compiled(ROOT, tmp_path_factory.mktemp("native") / "library.so"))


@given(
    quantiles=arrays.arrays(
        np.float32, st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3)), elements=NUMBERS
    ),
    digits=st.integers(0, 9),
    data=st.data(),
)
def test_both_write_the_same_bytes(native, quantiles, digits, data):
    n, horizon, q = quantiles.shape
    names = data.draw(st.lists(st.text(min_size=1), min_size=n, max_size=n))
    offsets = sorted(data.draw(st.sets(st.integers(0, 2**63 - 1), min_size=n, max_size=n)))
    origin = data.draw(st.integers(-(2**62), 2**62))
    made = forecasts(quantiles, names, offsets, origin)
    described = manifest((0.05, 0.5, 0.975)[:q], horizon)
    expected = ForecastEncoder(described, digits, write_lines).encode(made)
    assert list(ForecastEncoder(described, digits, native).encode(made)) == expected


def test_its_buffer_serves_large_and_small_batches_alike(native):
    random = np.random.default_rng(1)
    for n in (3, 1000, 7, 5000):
        quantiles = random.normal(0, 10.0 ** random.integers(-6, 12, (n, 1, 1)), (n, 24, 3))
        made = forecasts(quantiles, [f"s{i}" for i in range(n)], list(range(n)))
        expected = ForecastEncoder(manifest(horizon=24), 6, write_lines).encode(made)
        assert list(ForecastEncoder(manifest(horizon=24), 6, native).encode(made)) == expected


def test_without_the_library_python_writes(tmp_path):
    assert forecast_writer(tmp_path / "absent.so") is write_lines


@pytest.mark.parametrize(
    ("present", "other"),
    [(f"#define VERSION {VERSION} ", f"#define VERSION {VERSION + 1} "), ("tidecast_version", "without_a_version")],
)
def test_a_library_that_an_older_or_newer_source_left_behind_is_not_used(tmp_path, present, other):
    source = (ROOT / SOURCE).read_text()
    assert present in source
    (tmp_path / SOURCE).parent.mkdir(parents=True)
    (tmp_path / SOURCE).write_text(source.replace(present, other))
    assert forecast_writer(compiled(tmp_path, tmp_path / "library.so")) is write_lines
