"""Records become events, or are refused with the reason that an operator needs."""

import json
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.assembly import layout_of
from streamer.core import fields
from streamer.core.decoding import Decoder, Limits
from streamer.core.events import REASONS, Partition, Records
from streamer.core.fields import MAX_DEPTH, MAX_TS, NOT_GIVEN, Layout, iso8601, too_deep
from streamer.errors import EventError
from streamer.settings import InputFields
from tests.drive import records

GOOD = {"stream": "meter-17", "ts": 1_700_000_000_000, "value": 12.34}
DEFAULT = Decoder(Layout(), (), {}, Limits(max_record_bytes=4000))
RICH = Decoder(Layout(), ("temp", "wind"), {"site": ("north", "south")}, Limits())


def altered(**changes):
    return {k: v for k, v in (GOOD | changes).items() if v is not ...}


def nested(depth):
    return b'{"stream":"a","ts":1,"value":1,"x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


REFUSED = {
    "not_json": [b"", b"\xff", b"{", b'{"stream":"a"', b"nonsense", b'{"stream":"a","ts":1,"value":1} trailing',
                 b'{"stream":"a","ts":1,"value":1,"x":NaN}', b"\xef\xbb\xbf{}", b'{"stream":"\x00","ts":1,"value":1}'],
    "not_object": [None, b"null", b"[]", b"17", b'"text"', b"NaN"],
    "too_deep": [nested(65), nested(1500), b"[" * 200 + b"]" * 200],
    "too_large": [json.dumps(altered(note="x" * 4000)).encode(), b"x" * 4001],
    "missing_field": [altered(stream=...), altered(value=...), {}],
    "wrong_type": [altered(stream=17), altered(stream=None), altered(stream=["a"]), altered(value="12"),
                   altered(value=True), altered(value=[1]), altered(value={}), altered(ts=True),
                   altered(ts=[]), altered(ts={})],
    "not_finite": [b'{"stream":"a","ts":1,"value":NaN}', b'{"stream":"a","ts":1,"value":Infinity}',
                   b'{"stream":"a","ts":1,"value":-Infinity}', b'{"stream":"a","ts":1,"value":1e999}'],
    "out_of_range": [altered(value=1.1e15), altered(value=-1.1e15), altered(value=10**400)],
    "bad_stream": [altered(stream=""), altered(stream="x" * 513), altered(stream="é" * 257), altered(stream="\ud800")],
    "bad_timestamp": [altered(ts=...), altered(ts=None), altered(ts=-1), altered(ts=MAX_TS + 1), altered(ts=10**30),
                      altered(ts="yesterday"), altered(ts="0001-01-01T00:00:00+23:00"),
                      altered(ts="1969-12-31T23:59:59Z"),
                      b'{"stream":"a","ts":NaN,"value":1}', b'{"stream":"a","ts":Infinity,"value":1}'],
}  # fmt: skip


@pytest.mark.parametrize(("reason", "bad"), [(reason, bad) for reason, all_bad in REFUSED.items() for bad in all_bad])
def test_a_bad_record_is_refused_for_its_reason_and_its_neighbours_are_not(reason, bad):
    events = DEFAULT.decode(records([altered(stream="before"), bad, altered(stream="after")]))
    assert events.stream == ["before", "after"]
    assert events.index.tolist() == [0, 2]
    (rejection,) = events.rejected
    assert (rejection.index, rejection.reason) == (1, reason)
    assert rejection.message


def test_every_reason_the_decoder_gives_is_a_known_one():
    assert REFUSED.keys() < REASONS.keys()


@pytest.mark.parametrize(
    "accepted",
    [altered(value=None), altered(value=7), altered(value=1e15), altered(ts=0), altered(ts=MAX_TS),
     altered(stream="x" * 512), altered(stream="é" * 256), altered(stream="with,\"quotes\"\n"),
     altered(extra={"a": [1]}), nested(64), altered(note="[" * 500)],
)  # fmt: skip
def test_an_unusual_but_good_record_is_accepted(accepted):
    events = DEFAULT.decode(records([accepted]))
    assert events.rejected == []
    assert len(events.stream) == 1


def deepest(text):
    """The plain definition: one byte after the other, those of strings and after a backslash in them aside."""
    depth = most = 0
    in_string = escaped = False
    for byte in text:
        if in_string:
            in_string = escaped or byte != ord('"')
            escaped = not escaped and byte == ord("\\")
        elif byte == ord('"'):
            in_string = True
        elif byte in b"{[":
            depth += 1
            most = max(most, depth)
        elif byte in b"}]":
            depth -= 1
    return most


pieces = st.sampled_from([b"[", b"{", b"[[[[[[[[", b"]", b"}", b"[]", b'"', b"\\", b"\n", b"a", b",", b"\xff"])


@given(st.lists(pieces, max_size=200).map(b"".join), st.integers(0, MAX_DEPTH + 1))
def test_depth_counts_the_brackets_outside_strings_of_any_text(text, outer):
    text = b"[" * outer + text
    assert too_deep(text) == (deepest(text) > MAX_DEPTH)


def test_a_long_record_is_searched_for_its_depth_once(monkeypatch):
    searched = []

    class Counted:
        def sub(self, new, raw):
            searched.append(raw)
            return pattern.sub(new, raw)

    pattern = fields.STRING
    monkeypatch.setattr(fields, "STRING", Counted())
    many = b'"x":[' + b"[]," * 100 + b"1]}"
    long = [nested(65), b'{"stream":"a","ts":1,"value":1,' + many, b'{"stream":17,' + many, b"[[" * 200]
    for decoder in (DEFAULT, mapped(value="v")):
        decoder.decode(records(long))
        assert searched == long
        searched.clear()


@pytest.mark.parametrize(
    "ts",
    ["2023-11-14T22:13:20Z", "2023-11-14T23:13:20+01:00", "2023-11-14 22:13:20", "2023-11-14T22:13:20.000999Z",
     "20231114T221320Z", "2023-W46-2T22:13:20", 1.7e12, 1.7000000000004e12],
)  # fmt: skip
def test_the_default_layout_reads_iso_8601_and_whole_milliseconds(ts):
    assert DEFAULT.decode(records([altered(ts=ts)])).ts.tolist() == [1_700_000_000_000]


def test_a_bad_time_among_texts_and_numbers_is_refused_alone():
    times = [
        "2023-11-14T22:13:20Z",
        "soon",
        1,
        "1969-12-31T23:59:59.999Z",
        "12",
        "1970-01-01",
        "9999-12-31T23:59:59-01:00",
    ]
    events = DEFAULT.decode(records([b"{", *(altered(stream=str(i), ts=ts) for i, ts in enumerate(times, start=1)), 7]))
    assert (events.index.tolist(), events.stream) == ([1, 3, 6], ["1", "3", "6"])
    assert events.ts.tolist() == [1_700_000_000_000, 1, 0]
    assert [r.index for r in events.rejected] == [0, 2, 4, 5, 7, 8]
    assert {r.reason for r in events.rejected[1:5]} == {"bad_timestamp"}


utc_offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(timezone)
moments = st.datetimes(timezones=st.none() | st.just(UTC) | utc_offsets)


@given(moments, st.sampled_from(["auto", "hours", "minutes", "seconds", "milliseconds", "microseconds"]))
def test_an_iso_8601_time_is_its_whole_milliseconds_since_the_epoch(moment, precision):
    text = moment.isoformat(timespec=precision)
    exact = datetime.fromisoformat(text)
    exact = exact.replace(tzinfo=UTC) if exact.tzinfo is None else exact
    assert iso8601(text) == (exact - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def test_times_in_iso_8601_alone_make_a_layout_like_any_mapped_one():
    good = "2023-11-14T22:13:20Z"
    raw = records([altered(ts=good), altered(ts=1), altered(stream=17, ts=good), altered(ts="1970")])
    events = mapped(ts_unit="iso8601").decode(raw)
    assert (events.stream, events.ts.tolist()) == (["meter-17", "17"], [1_700_000_000_000] * 2)
    assert [(r.index, r.reason) for r in events.rejected] == [(1, "wrong_type"), (3, "bad_timestamp")]


def test_covariates_and_categories_come_by_the_models_names():
    events = RICH.decode(
        records([
            altered(covariates={"wind": 3, "unknown": "x"}, static={"site": "south", "floor": 3}),
            altered(covariates={"temp": None}, static={"site": "mars"}),
            altered(covariates=None, static={"site": None}),
            altered(),
        ])
    )  # fmt: skip
    assert events.rejected == []
    np.testing.assert_array_equal(events.values[:, 1:], [[np.nan, 3], [np.nan] * 2, [np.nan] * 2, [np.nan] * 2])
    assert events.codes.tolist() == [[2], [0], [NOT_GIVEN], [NOT_GIVEN]]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"covariates": {"temp": "warm"}}, "wrong_type"),
        ({"covariates": {"temp": True}}, "wrong_type"),
        ({"covariates": [1]}, "wrong_type"),
        ({"covariates": {"temp": 1e16}}, "out_of_range"),
        ({"static": {"site": 3}}, "wrong_type"),
        ({"static": "north"}, "wrong_type"),
    ],
)
def test_a_bad_covariate_or_category_refuses_the_event(bad, reason):
    events = RICH.decode(records([altered(**bad), altered()]))
    assert [(r.index, r.reason) for r in events.rejected] == [(0, reason)]
    assert events.index.tolist() == [1]


def mapped(covariates=(), static=None, where=None, **fields):
    return Decoder(layout_of(InputFields(**fields, **(where or {}))), covariates, static or {}, Limits())


def test_a_mapped_layout_finds_every_field_where_it_says():
    decoder = mapped(
        covariates=("temp",), static={"site": ("north", "south")},
        stream="device.id", ts="at.time", ts_unit="s", value="reading.kw",
        where={"covariates": {"temp": "outside.temp"}, "static": {"site": "device.site"}},
    )  # fmt: skip
    record = {
        "device": {"id": 17, "site": "south"},
        "at": {"time": 1_700_000_000.25},
        "reading": {"kw": 3},
        "outside": {"temp": -1},
    }
    events = decoder.decode(records([record]))
    assert events.rejected == []
    assert (events.stream, events.ts.tolist(), events.values.tolist(), events.codes.tolist()) == (
        ["17"],
        [1_700_000_000_250],
        [[3.0, -1.0]],
        [[2]],
    )


def test_the_stream_may_come_from_the_key_and_the_time_from_the_record():
    decoder = mapped(stream="$key", ts="$timestamp")
    raw = Records(Partition("t", 0), range(4), [5, -1, 6, 7], [b"a", b"b", None, b"\xff"], [b'{"value":1}'] * 4)
    events = decoder.decode(raw)
    assert (events.stream, events.ts.tolist()) == (["a"], [5])
    assert [(r.index, r.reason) for r in events.rejected] == [
        (1, "bad_timestamp"),
        (2, "bad_stream"),
        (3, "bad_stream"),
    ]


@pytest.mark.parametrize(
    ("unit", "found", "reason"),
    [("s", "2023-11-14T22:13:20Z", "wrong_type"), ("iso8601", 1_700_000_000, "wrong_type"), ("s", -1, "bad_timestamp"),
     ("iso8601", "soon", "bad_timestamp")],
)  # fmt: skip
def test_a_time_in_another_unit_is_refused(unit, found, reason):
    events = mapped(ts_unit=unit).decode(records([altered(ts=found)]))
    assert [r.reason for r in events.rejected] == [reason]


def test_a_path_through_something_else_than_an_object_is_a_wrong_type():
    events = mapped(value="reading.kw").decode(records([altered(reading=3), altered(reading=None), altered()]))
    assert [r.reason for r in events.rejected] == ["wrong_type", "missing_field", "missing_field"]


def test_an_event_ahead_of_its_records_timestamp_is_future():
    decoder = Decoder(Layout(), (), {}, Limits(max_future_ms=1000))
    raw = records([altered(ts=5000), altered(ts=5001), altered(ts=5001)], timestamps=[4000, 4000, -1])
    events = decoder.decode(raw)
    assert events.index.tolist() == [0, 2]  # a record without a timestamp cannot be ahead of it
    assert [(r.index, r.reason) for r in events.rejected] == [(1, "future")]
    assert decoder.decode(records([altered(ts=5001)])).rejected == []  # files have no record timestamps


texts = st.builds(
    str.replace,
    moments.map(datetime.isoformat),
    st.sampled_from(["", "T", "+00:00", "-", ":"]),
    st.sampled_from(["", " ", "Z", ".5"]),
)
times = st.integers(-1, 10**13) | texts
json_values = st.sampled_from([None, True, 3, -0.5, "", "text", [], [1], {}, {"site": {}}, {"temp": []}])
likely = st.fixed_dictionaries(
    {},
    optional={
        "stream": st.sampled_from(["a", "", "x" * 600]) | json_values,
        "ts": times | json_values,
        "value": st.floats() | st.integers() | json_values,
        "covariates": st.builds(dict, temp=st.floats() | json_values) | json_values,
        "static": st.fixed_dictionaries({}, optional={"site": st.sampled_from(["north", "mars"]) | json_values})
        | json_values,
    },
)


plain = st.fixed_dictionaries(
    {"stream": st.sampled_from(["a", "b" * 50]), "ts": times, "value": st.none() | st.floats(-9, 9)}
)


def reason_of(decoder, value):
    try:
        _, _, numbers, _ = decoder.understand(value, None, None)
    except EventError as refused:
        return refused.reason
    return "out_of_range" if np.nanmax(np.abs(np.array(numbers, float)), initial=0) > 1e15 else None


@given(
    st.lists(plain) | st.lists(likely, max_size=8),
    st.sampled_from([1, 20, 60, 127, 128, 129, 200, 1 << 20]),
    st.sampled_from(["ms", "iso8601"]),
)
def test_the_fast_way_and_the_exact_way_agree_on_every_record(documents, max_record_bytes, ts_unit):
    layout, limits = Layout(ts_unit=ts_unit), Limits(max_record_bytes)
    decoder = Decoder(layout, ("temp", "wind"), {"site": ("north", "south")}, limits)
    raw = records([json.dumps(d).encode() for d in documents])
    events = decoder.decode(raw)
    assert sorted([*events.index.tolist(), *(r.index for r in events.rejected)]) == list(range(len(raw)))
    for at, i in enumerate(events.index.tolist()):
        stream, ts, numbers, codes = decoder.understand(raw.values[i], None, None)
        assert (stream, ts, codes) == (events.stream[at], int(events.ts[at]), events.codes[at].tolist())
        np.testing.assert_array_equal(events.values[at], np.array(numbers, float))
    for rejection in events.rejected:
        assert reason_of(decoder, raw.values[rejection.index]) == rejection.reason


def test_a_small_limit_on_bytes_holds_whatever_else_is_in_the_batch():
    decoder = Decoder(Layout(), (), {}, Limits(max_record_bytes=50))
    for others in ([], [b"x" * 300]):
        events = decoder.decode(records([altered(stream="s" * 40), *others]))
        assert events.rejected[0].reason == "too_large"
