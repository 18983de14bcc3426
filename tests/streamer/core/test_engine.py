"""The engine's promises: one forecast per accepted event, the same ones however the log is cut into batches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.adapters.onnx_session import OnnxModel
from streamer.core import blocks, engine, stepping
from streamer.core.events import Partition
from streamer.demo import MODEL_PATH
from tests import models
from tests.drive import EVENTS, HOUR, Seen, assert_same_forecasts, batches, event, new_engine, records, run, run_all

OTHER = Partition("events", 1)
STATIC = {"site": ("north", "south")}
MAX_GAP = 4
WARMUP = 3


@pytest.fixture(scope="session")
def echo(tmp_path_factory):
    design = models.echo(covariates=("temp",), static=STATIC, warmup_steps=WARMUP)
    return OnnxModel(models.save(design, tmp_path_factory.mktemp("model") / "echo.onnx"))


@pytest.fixture(scope="session")
def gru(tmp_path_factory):
    return OnnxModel(models.save(models.gru(), tmp_path_factory.mktemp("model") / "gru.onnx"))


@pytest.fixture(scope="session")
def demo():
    return OnnxModel(MODEL_PATH)


@dataclass
class Stream:
    """What the specification knows of one stream."""

    slot: int | None = None
    age: int = 0
    last: dict[str, float] = field(default_factory=lambda: {"value": 0.0, "temp": 0.0})
    code: int = 0


def expected_of(events: Sequence[dict], idle: float = math.inf) -> tuple[list[Seen], list[tuple[int, str]]]:
    """The specification, one event after another in plain Python, for the echo model."""
    streams: dict[str, Stream] = {}
    seen, rejected = [], []
    progress = -math.inf
    for offset, e in enumerate(events):
        stream, slot = streams.setdefault(e["stream"], Stream()), e["ts"] // HOUR
        if stream.slot is not None and progress - stream.slot > idle:
            stream = streams[e["stream"]] = Stream()
        if stream.slot is not None and slot <= stream.slot:
            rejected.append((offset, "duplicate" if slot == stream.slot else "late"))
            continue
        steps = 1 if stream.slot is None else slot - stream.slot
        if steps - 1 > MAX_GAP:
            stream.age, stream.last, steps = 0, Stream().last, 1
        stream.age += steps
        stream.slot = slot
        progress = max(progress, slot)
        for name, value in (("value", e["value"]), *e["covariates"].items()):
            if value is not None:
                stream.last[name] = value
        if (site := e["static"].get("site")) is not None:
            stream.code = STATIC["site"].index(site) + 1 if site in STATIC["site"] else 0
        forecast = models.echo_forecast(sum(stream.last.values()), stream.age, stream.code)
        seen.append(Seen(f"events-0-{offset}", e["stream"], slot * HOUR, stream.age >= WARMUP, forecast))
    return seen, rejected


numbers = st.none() | st.integers(-50, 50).map(float)
some_event = st.builds(
    event,
    st.sampled_from("abc"),
    st.integers(0, 40),
    numbers,
    covariates=st.fixed_dictionaries({}, optional={"temp": numbers}),
    static=st.fixed_dictionaries({}, optional={"site": st.sampled_from(["north", "south", "mars", None])}),
)
some_log = st.lists(some_event, max_size=60).flatmap(
    lambda log: st.sampled_from([log, sorted(log, key=lambda e: e["ts"])])  # mostly late ones, or none
)
some_sizes = st.lists(st.integers(1, 9), max_size=12)


@given(log=some_log, sizes=some_sizes)
def test_any_log_in_any_batches_is_forecast_as_the_specification_says(echo, log, sizes):
    found, rejected = run_all(new_engine(echo, max_gap_steps=MAX_GAP), batches(log, sizes))
    expected, refused = expected_of(log)
    assert rejected == refused
    assert_same_forecasts(found, expected)


@given(log=some_log, sizes=some_sizes, idle=st.integers(1, 12), evictions=st.randoms(use_true_random=False))
def test_a_silent_stream_begins_anew_whether_or_not_its_row_was_freed(echo, log, sizes, idle, evictions):
    eng = new_engine(echo, max_gap_steps=MAX_GAP)
    eng.grid = replace(eng.grid, idle_slots=idle)
    found, rejected = [], []
    for part in batches(log, sizes):
        forecasts, refused = run(eng, part)
        found += forecasts
        rejected += refused
        if evictions.random() < 0.5:
            eng.evict([EVENTS])
    expected, refused = expected_of(log, idle)
    assert rejected == refused
    assert_same_forecasts(found, expected)


def test_a_stream_that_begins_again_at_an_earlier_slot_is_judged_from_there(echo):
    eng = new_engine(echo)
    eng.grid = replace(eng.grid, idle_slots=5)
    log = [event("a", 10), event("b", 20), event("a", 3), event("a", 3), event("a", 2), event("a", 4)]
    seen, rejected = run(eng, records(log))
    # a's fourth is a duplicate of its new first slot; the others come after a silence of more than 5 slots each time
    assert [s.origin // HOUR for s in seen] == [10, 20, 3, 3, 2, 4]
    assert rejected == []
    seen, rejected = run(eng, records([event("a", 17), event("a", 17), event("a", 16), event("a", 18)], offset=6))
    assert [s.origin // HOUR for s in seen] == [17, 18]
    assert rejected == [(7, "duplicate"), (8, "late")]


def test_the_steps_of_a_batch_are_told_missing_ones_included(echo):
    eng = new_engine(echo, max_gap_steps=MAX_GAP)
    batch = records([event("a", 1), event("a", 4), event("b", 4), event("b", 4), event("a", 4 + MAX_GAP + 2)])
    assert eng.advance([batch]).steps == 1 + 3 + 1 + 0 + 1
    assert eng.advance([]).steps == 0


def evict(eng):
    return eng.evict([EVENTS])[EVENTS]


def test_eviction_frees_the_rows_of_the_silent_and_names_them(echo):
    eng = new_engine(echo, max_streams=2)
    assert evict(eng) == []
    eng.grid = replace(eng.grid, idle_slots=5)
    assert evict(eng) == []
    run(eng, records([event("a", 1), event("b", 6)]))
    assert evict(eng) == []
    run(eng, records([event("b", 7)]))
    assert evict(eng) == ["a"]
    assert run(eng, records([event("c", 7)]))[1] == []  # its row serves another


def test_eviction_of_very_many_takes_several_goes(echo, monkeypatch):
    monkeypatch.setattr(engine, "MAX_EVICTED", 1)
    eng = new_engine(echo)
    eng.grid = replace(eng.grid, idle_slots=5)
    run(eng, records([event("a", 1), event("b", 1), event("c", 9)]))
    assert [evict(eng) for _ in range(3)] == [["a"], ["b"], []]


@given(silent=st.lists(st.integers(0, 12), min_size=1, max_size=5), most=st.integers(5, 20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_partitions_share_what_one_eviction_may_free_and_none_waits_for_another(echo, monkeypatch, silent, most):
    eng = new_engine(echo)
    eng.grid = replace(eng.grid, idle_slots=5)
    partitions = [Partition("events", number) for number in range(len(silent))]
    for partition, count in zip(partitions, silent, strict=True):
        run(eng, records([event(f"s{i}", 1) for i in range(count)] + [event("loud", 9)], partition=partition))
    left = dict(zip(partitions, silent, strict=True))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "MAX_EVICTED", most)
        while any(left.values()):
            gone = {partition: len(streams) for partition, streams in eng.evict(partitions).items()}
            assert sum(gone.values()) == min(most, sum(left.values()))
            assert all(gone[p] >= min(left[p], most // len(partitions)) for p in partitions)
            left = {p: left[p] - gone[p] for p in partitions}
    assert eng.evict(partitions) == {p: [] for p in partitions}


@given(log=some_log, sizes=some_sizes, longest=st.integers(1, 5), elements=st.sampled_from([8, 64]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_block_limits_change_no_forecast(echo, monkeypatch, log, sizes, longest, elements):
    with monkeypatch.context() as patch:
        patch.setattr(stepping, "MAX_STEPS", longest)
        patch.setattr(stepping, "MAX_LAID_OUT_STEPS", longest)
        patch.setattr(blocks, "MAX_ELEMENTS", elements)
        found, _ = run_all(new_engine(echo, max_gap_steps=MAX_GAP), batches(log, sizes))
    assert_same_forecasts(found, expected_of(log)[0])


@pytest.fixture(scope="session")
def daily_log():
    """Streams of very different rates and gaps, with values that wander, in order of time."""
    random = np.random.default_rng(5)
    log = []
    for s, share in enumerate((0.02, 0.2, 0.5, 0.9, 1.0)):
        hours = np.flatnonzero(random.random(300) < share)
        values = 50 + np.cumsum(random.normal(size=300))
        log += [event(f"s{s}", int(h), None if random.random() < 0.1 else round(values[h], 3)) for h in hours]
    return sorted(log, key=lambda e: e["ts"])


@pytest.mark.parametrize("which", ["gru", "demo"])
@pytest.mark.parametrize("size", [1, 7, "random"])
def test_batches_of_one_of_seven_or_of_any_size_give_the_forecasts_and_states_of_one_batch(
    request, daily_log, which, size
):
    model = request.getfixturevalue(which)
    whole, cut = new_engine(model), new_engine(model)
    expected, _ = run(whole, records(daily_log))
    n = len(daily_log)
    sizes = np.random.default_rng(1).integers(1, 90, n) if size == "random" else [size] * (n // size)
    found, _ = run_all(cut, batches(daily_log, map(int, sizes)))
    assert len(found) == n
    assert_same_forecasts(found, expected)
    assert_same_states(cut, whole)


def test_a_silent_stream_that_comes_again_before_its_turn_is_not_evicted(echo, monkeypatch):
    monkeypatch.setattr(engine, "MAX_EVICTED", 1)
    eng = new_engine(echo)
    eng.grid = replace(eng.grid, idle_slots=80)
    run(eng, records([event("a", 1), event("b", 1), event("c", 1), event("d", 100)]))
    assert evict(eng) == ["a"]
    run(eng, records([event("b", 100)], offset=4))
    assert [evict(eng) for _ in range(3)] == [[], ["c"], []]


def test_streams_restored_twice_are_as_their_last_snapshots_have_them(echo):
    source, eng = new_engine(echo), new_engine(echo)
    run(source, records([event("a", 1, 5), event("b", 1, 6)]))
    eng.restore(EVENTS, ["a", "b"], source.arena.snapshots(source.rows(EVENTS), covers=2))
    run(source, records([event("c", 1, 7), event("b", 2, 8)], offset=2))
    rows = source.rows(EVENTS)[[2, 1]]
    eng.restore(EVENTS, ["c", "b"], source.arena.snapshots(rows, covers=4))
    assert_same_states(eng, source)
    assert eng.arena.covers[eng.rows(EVENTS)].tolist() == [2, 4, 4]
    eng.restore(EVENTS, [], source.arena.snapshots(rows[:0], covers=4))
    assert_same_states(eng, source)


@pytest.mark.parametrize("which", ["gru", "demo"])
def test_a_streams_forecasts_do_not_depend_on_its_neighbours(request, daily_log, which):
    model = request.getfixturevalue(which)
    together, _ = run(new_engine(model), records(daily_log))
    for name in ("s0", "s4"):
        own = [e for e in daily_log if e["stream"] == name]
        alone, _ = run(new_engine(model), records(own))
        expected = [s._replace(id=a.id) for s, a in zip((s for s in together if s.stream == name), alone, strict=True)]
        assert_same_forecasts(alone, expected)


def assert_same_states(found, expected):
    """Rows are handed out by first appearance, so the same streams have the same rows."""
    assert len(found.arena) == len(expected.arena)
    rows = slice(0, len(found.arena))
    assert (found.arena.last_slot[rows] == expected.arena.last_slot[rows]).all()
    assert (found.arena.age[rows] == expected.arena.age[rows]).all()
    at = np.arange(rows.stop)
    for a, b in zip(found.arena.held.read(at), expected.arena.held.read(at), strict=True):
        a, b = (x.reshape(rows.stop, -1).astype(float) for x in (a, b))
        scale = np.maximum(np.abs(b).max(axis=1, keepdims=True), 1e-3)
        assert (np.abs(a - b) <= 1e-5 * np.maximum(np.abs(b), scale)).all()


def test_the_same_id_in_two_partitions_is_two_streams(echo):
    eng = new_engine(echo)
    seen, _ = run(eng, records([event("a", 1, 5)]), records([event("a", 1, 7)], partition=OTHER))
    assert [s.quantiles[0, 1] for s in seen] == [6.0, 8.0]
    assert len(eng.arena) == 2


def test_a_released_partition_is_forgotten_and_its_rows_serve_others(echo):
    eng = new_engine(echo, max_streams=1)
    run(eng, records([event("a", 1, 5)]))
    eng.release(Partition("events", 0))
    assert len(eng.arena) == 0
    (seen,), rejected = run(eng, records([event("b", 1, None)], partition=OTHER))
    assert rejected == []
    assert seen.quantiles[0, 1] == 1.0  # nothing of a's 5 is left


def test_a_new_stream_beyond_max_streams_is_rejected_and_the_known_go_on(echo):
    eng = new_engine(echo, max_streams=2)
    log = [event("a", 1), event("b", 1), event("c", 1), event("c", 2), event("a", 2)]
    seen, rejected = run(eng, records(log))
    assert [s.stream for s in seen] == ["a", "b", "a"]
    assert rejected == [(2, "too_many_streams"), (3, "too_many_streams")]


def test_ids_that_another_partition_of_the_topic_has_are_told(echo):
    tested = new_engine(echo)
    elsewhere = Partition("others", 0)
    tested.advance([replace(records([event(s, 1)]), partition=p) for s, p in (("a", OTHER), ("b", elsewhere))])
    assert tested.also_elsewhere(EVENTS, ["a", "b", "a"]) == {"a"}
    assert tested.also_elsewhere(OTHER, ["a", "b"]) == set()


def test_an_empty_batch_gives_nothing(echo):
    eng = new_engine(echo)
    assert eng.advance([]).forecasts == []
    assert run(eng, records([])) == ([], [])
    assert run(eng, records([b"", None])) == ([], [(0, "not_json"), (1, "not_object")])


def test_a_per_event_model_takes_every_event_as_one_step(tmp_path):
    model = OnnxModel(models.save(models.echo(step_ms=None), tmp_path / "echo.onnx"))
    log = [event("a", 1), event("a", 1.001), event("a", 1.001), event("a", 500), event("a", 499)]
    seen, rejected = run(new_engine(model), records(log))
    assert [s.origin for s in seen] == [HOUR, round(1.001 * HOUR), 500 * HOUR]
    assert [s.quantiles[0, 1] for s in seen] == [2.0, 3.0, 4.0]
    assert rejected == [(2, "duplicate"), (4, "late")]


def test_a_model_of_one_step_gives_the_forecasts_of_one_of_many(tmp_path):
    one = OnnxModel(models.save(models.gru(fixed_steps=True), tmp_path / "one.onnx"))
    many = OnnxModel(models.save(models.gru(), tmp_path / "many.onnx"))
    log = [event(s, h, 50 + h) for h in (1, 2, 5, 30) for s in "ab"]
    assert_same_forecasts(run(new_engine(one), records(log))[0], run(new_engine(many), records(log))[0])


def test_slot_nearest_rounds_a_jittering_clock(echo):
    log = [event("a", 0.98), event("a", 2.02), event("a", 2.98)]
    seen, rejected = run(new_engine(echo, slot="nearest"), records(log))
    assert [s.origin // HOUR for s in seen] == [1, 2, 3]
    assert rejected == []


BAD = -999.0


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_broken_state_resets_its_own_stream_at_its_own_step_in_any_batching(tmp_path, poison, size):
    model = OnnxModel(models.save(models.echo(poison=(BAD, poison), warmup_steps=2), tmp_path / "echo.onnx"))
    log = [event(s, h, BAD if (s, h) == ("b", 3) else h) for h in (1, 2, 3, 4, 7) for s in "abc"]
    eng = new_engine(model)
    resets, seen = [], []
    for part in batches(log, [size] * (len(log) // size)):
        outcome = eng.advance([part])
        resets += outcome.resets
        seen += [
            (s, bool(w), q[0, 1])
            for f in outcome.forecasts
            for s, w, q in zip(f.stream, f.warm, f.quantiles, strict=True)
        ]
    assert [(r.partition.number, r.stream, r.time) for r in resets] == [(0, "b", 3 * HOUR)] * len(resets)
    assert len(resets) == 1
    for name in "ac":
        assert [q for s, _, q in seen if s == name] == [2.0, 4.0, 6.0, 8.0, 14.0]
    broken = [(w, q) for s, w, q in seen if s == "b"]
    assert broken[:2] == [(False, 2.0), (True, 4.0)]
    assert not broken[2][0]
    assert np.isnan(broken[2][1])  # the value breaks a fresh state too: there is no forecast to give
    assert broken[3:] == [(False, 5.0), (True, 11.0)]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_forecast_that_is_not_finite_is_missing_and_a_replay_comes_to_the_same_state(echo, size):
    class Overflowing:
        manifest, signature = echo.manifest, echo.signature

        def advance(self, block, state):
            quantiles, after = echo.advance(block, state)
            return np.where(quantiles[:, :1, 1:2] > 90, np.float32(np.inf), quantiles), after

    log = [event(s, h, 99 if (s, h) == ("b", 3) else h) for h in range(1, 6) for s in "ab"]
    eng = new_engine(Overflowing())
    eng.advance([records(log[:2])])
    again = restarted(eng, new_engine(Overflowing()))
    missing = []
    for part in batches(log[2:], [size] * (8 // size)):
        (forecasts,) = eng.advance([part]).forecasts
        assert not np.isinf(forecasts.quantiles).any()
        gone = np.isnan(forecasts.quantiles).all(axis=(1, 2))
        missing += [(forecasts.stream[i], forecasts.origin[i] // HOUR) for i in np.flatnonzero(gone)]
        again.replay(part)
    assert missing == [("b", 3)]
    live, replayed = (e.arena.snapshots(e.rows(EVENTS), 0) for e in (eng, again))
    assert live.age.tolist() == replayed.age.tolist() == [5, 5]
    assert [state.tolist() for state in live.states] == [state.tolist() for state in replayed.states]


def test_an_exploded_state_is_reset_before_it_overflows(tmp_path):
    model = OnnxModel(models.save(models.echo(poison=(BAD, 2e36)), tmp_path / "echo.onnx"))
    eng = new_engine(model)
    (reset,) = eng.advance([records([event("a", 1), event("a", 2, BAD)])]).resets
    assert (reset.stream, reset.time) == ("a", 2 * HOUR)
    (seen,), _ = run(eng, records([event("a", 3, 7)]))
    assert seen.quantiles[0, 1] == 8.0


def test_a_state_that_only_broke_by_what_it_had_gathered_starts_fresh_with_the_same_step(tmp_path):
    body = """
        flat = Constant <value_ints = [-1, 1]> ()
        last = Reshape (value, flat)
        once = Mul (state_sum, last)
        twice = Mul (once, last)
        scaled = Mul (twice, last)
        next_state_sum = Add (scaled, last)
        cube = Constant <value_ints = [-1, 1, 1]> ()
        picked = Gather (next_state_sum, emit)
        column = Reshape (picked, cube)
        ones = Constant <value = float[1, 3, 3] {1, 1, 1, 1, 1, 1, 1, 1, 1}> ()
        quantiles = Mul (column, ones)
    """
    design = models.Design(fixed_steps=True, warmup_steps=2)
    outputs = "float[N, 3, 3] quantiles, float[B, 1] next_state_sum"
    grown = models.handmade(design, inputs="float[B, 1] state_sum", outputs=outputs, body=body)
    eng = new_engine(OnnxModel(models.save(grown, tmp_path / "grown.onnx")))
    outcome = eng.advance([records([event("a", 1, 1), event("a", 2, 2), event("a", 3, 1e13), event("a", 4, 0)])])
    assert [r.time for r in outcome.resets] == [3 * HOUR]  # 10, then beyond 1e36
    (f,) = outcome.forecasts
    assert f.quantiles[:, 0, 0].tolist() == [1.0, 10.0, np.float32(1e13), 0.0]
    assert f.warm.tolist() == [False, True, False, True]


def test_a_forecast_knows_its_records_kafka_timestamp(echo):
    log = [event("a", 1), b"nonsense", event("a", 2)]
    (f,) = new_engine(echo).advance([records(log, timestamps=[5 * HOUR, 6 * HOUR, 7 * HOUR])]).forecasts
    assert f.record_times.tolist() == [5 * HOUR, 7 * HOUR]
    (f,) = new_engine(echo).advance([records(log)]).forecasts
    assert f.record_times.tolist() == [-1, -1]


@given(log=some_log, sizes=some_sizes, every=st.integers(2, 9), restart=st.integers(0, 60))
def test_thinned_forecasts_are_the_first_of_each_stream_in_each_period(echo, log, sizes, every, restart):
    """However the log is cut, and over a restart from snapshots, too; the states are those of all events."""

    def thinned():
        eng = new_engine(echo, max_gap_steps=MAX_GAP)
        eng.grid = replace(eng.grid, every=every)
        return eng

    eng = thinned()
    found, rejected = [], []
    for part in batches(log, sizes):
        if len(found) > restart:
            eng, restart = restarted(eng, thinned()), len(log)
        (forecasts,) = eng.advance([part]).forecasts
        published = forecasts.published()
        offsets = [part.offsets[i] for i in published.index.tolist()]
        columns = (published.stream, published.origin.tolist(), published.warm.tolist(), published.quantiles)
        found += [Seen(f"events-0-{o}", *row) for o, row in zip(offsets, zip(*columns, strict=True), strict=True)]
        rejected += [(part.offsets[r.index], r.reason) for r in forecasts.rejected]
        assert len(forecasts) + len(forecasts.rejected) == len(part)
    expected, refused = expected_of(log)
    last: dict[str, int] = {}
    wanted = []
    for forecast in expected:
        period = forecast.origin // HOUR // every
        if last.get(forecast.stream) != period:
            wanted.append(forecast)
        last[forecast.stream] = period
    assert rejected == refused
    assert_same_forecasts(found, wanted)


def restarted(old, new):
    """An engine with the states that another one's snapshots hold."""
    rows = old.rows(EVENTS)
    new.restore(EVENTS, [old.arena.stream[row] for row in rows.tolist()], old.arena.snapshots(rows, 0))
    new.go_live(EVENTS)
    return new


def test_what_is_not_published_costs_no_forecast(echo):
    emitted = []

    class Counting:
        manifest, signature = echo.manifest, echo.signature

        def advance(self, block, state):
            emitted.append(len(block.emit))
            return echo.advance(block, state)

    eng = new_engine(Counting())
    eng.grid = replace(eng.grid, every=4)
    for hour in range(8, 17):
        eng.advance([records([event("a", hour)], hour)])
    assert emitted == [1, 0, 0, 0, 1, 0, 0, 0, 1]
