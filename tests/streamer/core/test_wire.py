"""What is published: forecasts that a consumer can read back exactly, and dead letters that explain themselves."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streamer.core.decoding import Rejection
from streamer.core.events import Partition, Records
from streamer.core.wire import ForecastEncoder, dead_letter_headers
from tests.forecasts import forecasts, manifest


def test_a_forecast_looks_like_this():
    quantiles = [[[1, 2, 3], [4.25, 5.00004999, 6.00005001]], [[-20, 20.00006, 1234.5678], [-1e-9, np.nan, 4]]]
    lines = ForecastEncoder(manifest()).encode(forecasts(quantiles, ["meter-17", 'a,"b"\n'], [7, 88123, 88125]))
    assert lines == [
        b'{"id":"events-3-88123","stream":"meter-17","origin":1700000000000,"step_ms":3600000,"model":"gru-64@3",'
        b'"warm":false,"quantiles":{"0.1":[1.0,4.25],"0.5":[2.0,5.00005],"0.9":[3.0,6.00005]}}',
        b'{"id":"events-3-88125","stream":"a,\\"b\\"\\n","origin":1700000000000,"step_ms":3600000,"model":"gru-64@3",'
        b'"warm":true,"quantiles":{"0.1":[-20.0,0.0],"0.5":[20.0,null],"0.9":[1234.57,4.0]}}',
    ]


def test_a_forecast_in_full_looks_like_this():
    quantiles = [[[1, 2, 3], [4, 5.5, 1e6]], [[0.1, 1e-20, 3], [-0.0, np.nan, 16777216]]]
    lines = ForecastEncoder(manifest(), digits=0).encode(
        forecasts(quantiles, ["meter-17", 'a,"b"\n'], [7, 88123, 88125])
    )
    assert lines == [
        b'{"id":"events-3-88123","stream":"meter-17","origin":1700000000000,"step_ms":3600000,"model":"gru-64@3",'
        b'"warm":false,"quantiles":{"0.1":[1.0,4.0],"0.5":[2.0,5.5],"0.9":[3.0,1000000.0]}}',
        b'{"id":"events-3-88125","stream":"a,\\"b\\"\\n","origin":1700000000000,"step_ms":3600000,"model":"gru-64@3",'
        b'"warm":true,"quantiles":{"0.1":[0.1,-0.0],"0.5":[1e-20,null],"0.9":[3.0,16777216.0]}}',
    ]


@given(
    quantiles=arrays.arrays(
        np.float32,
        st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(1, 3)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    data=st.data(),
)
def test_in_full_every_number_and_name_comes_back_exactly(quantiles, data):
    n, horizon, q = quantiles.shape
    levels = (0.05, 0.5, 0.975)[:q]
    names = data.draw(st.lists(st.text(min_size=1), min_size=n, max_size=n))
    topic = data.draw(st.sampled_from(["events", 'a "file".jsonl']))
    made = forecasts(quantiles, names, list(range(n)), topic=topic)
    read = [json.loads(line) for line in ForecastEncoder(manifest(levels, horizon, None), digits=0).encode(made)]
    assert [r["id"] for r in read] == [f"{topic}-3-{i}" for i in range(n)]
    assert [r["stream"] for r in read] == names
    assert all(r["step_ms"] is None for r in read)
    for found, expected in zip(read, quantiles, strict=True):
        assert list(found["quantiles"]) == [repr(level) for level in levels]
        back = np.array(list(found["quantiles"].values()), np.float32).T
        np.testing.assert_array_equal(back, expected)


def test_a_dead_letter_keeps_its_headers_and_says_why_and_where():
    own = [("trace", b"17"), ("trace", b"18")]
    raw = Records(Partition("events", 3), [41, 42], [0, 0], [None] * 2, [b"x"] * 2, headers=[[], own].__getitem__)
    headers = dead_letter_headers(Rejection(1, "not_json", "the value is not JSON: é"), raw)
    assert headers == [
        *own,
        ("__streams.errors.exception", b"not_json"),
        ("__streams.errors.message", "the value is not JSON: é".encode()),
        ("__streams.errors.topic", b"events"),
        ("__streams.errors.partition", b"3"),
        ("__streams.errors.offset", b"42"),
    ]


def test_a_record_from_a_file_has_no_headers_of_its_own():
    raw = Records(Partition("f", 0), [0], None, [None], [b"x"])
    headers = dead_letter_headers(Rejection(0, "not_json", "\ud800"), raw)
    assert headers[1] == ("__streams.errors.message", b"?")


def test_no_accepted_event_gives_no_line():
    assert ForecastEncoder(manifest()).encode(forecasts(np.zeros((0, 2, 3)), [], [1, 2])) == []


def test_some_leads_and_levels_are_published_in_the_models_order():
    quantiles = np.arange(24, dtype=float).reshape(1, 8, 3)
    made = forecasts(quantiles, ["a"], [7])
    (line,) = ForecastEncoder(manifest(horizon=8), leads=(6, 1), levels=(0.9, 0.1)).encode(made)
    found = json.loads(line)
    assert found["leads"] == [1, 6]
    assert found["quantiles"] == {"0.1": [0.0, 15.0], "0.9": [2.0, 17.0]}
    (line,) = ForecastEncoder(manifest(horizon=8), levels=(0.5,)).encode(made)
    assert "leads" not in json.loads(line)
    assert json.loads(line)["quantiles"] == {"0.5": [1.0, 4.0, 7.0, 10.0, 13.0, 16.0, 19.0, 22.0]}


def test_a_percent_sign_in_a_models_name_is_just_one():
    described = manifest().model_copy(update={"name": "100%s"})
    (line,) = ForecastEncoder(described).encode(forecasts(np.ones((1, 2, 3)), ["a%d"], [7]))
    assert (json.loads(line)["model"], json.loads(line)["stream"]) == ("100%s@3", "a%d")
