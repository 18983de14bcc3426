"""The verdict itself: it is clean for what an uninterrupted run publishes, and tells every way to differ from that."""

from collections.abc import Callable
from typing import NamedTuple

import orjson
import pytest

from tests import models
from tests.chaos.oracle import Life, expected_forecasts, judge
from tests.chaos.workload import STEP_MS, Workload

Output = list["Seen"]


class Seen(NamedTuple):
    """A record as readers see it."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    return models.save(models.gru(step_ms=STEP_MS, horizon=4, warmup_steps=2), path)


@pytest.fixture(scope="module")
def events():
    workload = Workload(events=300, streams=20, partitions=2)
    ends = dict.fromkeys(range(workload.partitions), 0)
    found = []
    for record in workload.records():
        found.append(Seen("events", record.partition, ends[record.partition], record.key, record.value))
        ends[record.partition] += 1
    return sorted(found, key=lambda r: (r.partition, r.offset))


@pytest.fixture(scope="module")
def expected(events, model):
    return expected_forecasts(events, model)


@pytest.fixture
def output(expected) -> Output:
    """What an uninterrupted run publishes."""
    return [
        Seen("forecasts", int(name.split("-")[1]), i, forecast["stream"].encode(), orjson.dumps(forecast))
        for i, (name, forecast) in enumerate(expected.items())
    ]


def changed(seen: Seen, **fields: object) -> Seen:
    return seen._replace(value=orjson.dumps(orjson.loads(seen.value) | fields))


def test_what_an_uninterrupted_run_publishes_is_clean(output, expected):
    verdict = judge(output, expected)
    assert verdict.is_clean
    assert verdict.visible == verdict.expected == len(expected) > 250


@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        ("missing", lambda out: out[:7] + out[8:]),
        ("duplicate", lambda out: [*out[:8], out[7], *out[8:]]),
        ("unordered", lambda out: [*out[:7], out[8], out[7], *out[9:]]),
        ("unexpected", lambda out: [changed(out[0], id="events-0-100000"), *out[1:]]),
        ("unequal", lambda out: [changed(out[0], warm=True), *out[1:]]),
        ("unequal", lambda out: [changed(out[0], model="gru-16@2"), *out[1:]]),
        ("unequal", lambda out: [out[0]._replace(key=b"another"), *out[1:]]),
        ("unequal", lambda out: [out[0]._replace(partition=5), *out[1:]]),
        ("worst", lambda out: [changed(out[0], quantiles=_moved(out[0], 1.001)), *out[1:]]),
    ],
)
def test_every_difference_is_told(output, expected, what: str, spoil: Callable[[Output], Output]):
    verdict = judge(spoil(output), expected)
    assert not verdict.is_clean
    assert getattr(verdict, what) > 0.0


def _moved(seen: Seen, factor: float) -> dict[str, list[float]]:
    quantiles = orjson.loads(seen.value)["quantiles"]
    return {level: [number * factor for number in numbers] for level, numbers in quantiles.items()}


def test_a_stream_that_starts_fresh_is_held_against_a_run_that_begins_there(events, model, output, expected):
    stream = events[0].key
    own = [record for record in events if record.key == stream]
    cut = own[len(own) // 2].offset
    lives = {stream: [Life(0, model), Life(cut, model)]}
    fresh = expected_forecasts(events, model, lives)
    assert not judge(output, fresh).is_clean
    differs = {name for name in expected if expected[name] != fresh.get(name)}
    assert differs == {f"events-{r.partition}-{r.offset}" for r in own if r.offset >= cut} & differs
    assert differs
    fed = expected_forecasts(events, model, {stream: [Life(0, model), Life(cut, model, fed_silently=0)]})
    assert fed == expected


def test_a_stream_without_a_life_is_expected_to_be_silent(events, model, expected):
    stream = events[0].key
    silent = expected_forecasts(events, model, {stream: []})
    assert expected.keys() - silent.keys() == {n for n, f in expected.items() if f["stream"].encode() == stream}
