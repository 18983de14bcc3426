"""The core's throughput, decode → engine → encode without Kafka, beside a naive loop over single events.

    python -m tests.benchmarks.core_throughput

Both read the same event lines and write the same forecasts with the same GRU-64 model (24 leads × 3 levels) on one
thread. The naive loop is what one writes first: stdlib json, a dict of states, one model call per event. Rounds are
interleaved, figures are medians.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from streamer.adapters.onnx_session import OnnxModel
from streamer.core.contract import Block
from streamer.core.engine import Engine
from streamer.core.events import Partition, Records
from streamer.core.wire import ForecastEncoder
from tests import models
from tests.drive import new_engine

STREAMS, BATCH, BATCHES, NAIVE_EVENTS, REPETITIONS = 10_000, 10_000, 10, 10_000, 5
STEP_MS = 60_000
BEGIN_MS = 1_700_000_040_000  # a slot's start


def even_lines(events: int) -> list[bytes]:
    """Every stream once per step, in random order."""
    random = np.random.default_rng(1)
    order = np.concatenate([random.permutation(STREAMS) for _ in range(-(-events // STREAMS))])[:events]
    values = random.uniform(20, 80, events)
    return [_line(s, i // STREAMS, v) for i, (s, v) in enumerate(zip(order.tolist(), values.tolist(), strict=True))]


def hot_lines(events: int) -> list[bytes]:
    """Every second event is stream 0's, the others' as before."""
    random = np.random.default_rng(2)
    others = even_lines(events // 2)
    values = random.uniform(20, 80, len(others)).tolist()
    hot = [_line("hot", i, v) for i, v in enumerate(values)]
    return [line for pair in zip(hot, others, strict=True) for line in pair]


def _line(stream: int | str, step: int, value: float) -> bytes:
    name = stream if isinstance(stream, str) else f"meter-{stream:06d}"
    return b'{"stream":"%s","ts":%d,"value":%.3f}' % (name.encode(), BEGIN_MS + step * STEP_MS, value)


def core(model: OnnxModel, lines: Sequence[bytes]) -> float:
    """Events per second of the engine; the first batch, in which every stream is new, is not timed."""
    engine: Engine = new_engine(model, max_streams=2 * STREAMS)
    encoder = ForecastEncoder(model.manifest)
    batches = [
        Records(Partition("events", 0), range(at, at + BATCH), None, [None] * BATCH, lines[at : at + BATCH])
        for at in range(0, len(lines), BATCH)
    ]
    engine.advance(batches[:1])
    begin, published = time.perf_counter(), 0
    for records in batches[1:]:
        (forecasts,) = engine.advance([records]).forecasts
        published += len(encoder.encode(forecasts))
    seconds = time.perf_counter() - begin
    assert published == len(lines) - BATCH
    return published / seconds


def naive(model: OnnxModel, lines: Sequence[bytes]) -> float:
    """Events per second of the loop one writes first."""
    states: dict[str, list[np.ndarray]] = {}
    one, here = np.ones(1, np.int64), np.zeros(1, np.int64)
    levels = [str(level) for level in model.manifest.levels]
    begin, published = time.perf_counter(), 0
    for line in lines:
        event = json.loads(line)
        state = states.get(event["stream"])
        if state is None:
            state = [np.zeros((1, *s.shape), s.dtype) for s in model.signature.states]
        value = np.array([[[event["value"]]]], np.float32)
        time_ = np.array([[event["ts"]]], np.int64)
        block = Block(value, np.ones_like(value), time_, one, here, np.zeros((1, 0), np.int64))
        quantiles, states[event["stream"]] = model.advance(block, state)
        numbers = dict(zip(levels, quantiles[0].T.tolist(), strict=True))
        record = {"stream": event["stream"], "origin": event["ts"], "model": "gru-64@1", "quantiles": numbers}
        published += bool(json.dumps(record).encode())
    return published / (time.perf_counter() - begin)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        design = models.gru(hidden=64, horizon=24, step_ms=STEP_MS)
        model = OnnxModel(models.save(design, Path(folder) / "gru-64.onnx"))
        even, hot = even_lines(BATCH * (BATCHES + 1)), hot_lines(BATCH * (BATCHES + 1))
        runs: dict[str, Callable[[], float]] = {
            "naive loop": lambda: naive(model, even[:NAIVE_EVENTS]),
            "core, even streams": lambda: core(model, even),
            "core, one hot stream": lambda: core(model, hot),
        }
        found: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(REPETITIONS):
            for name, run in runs.items():
                found[name].append(run())
    median = {name: statistics.median(rates) for name, rates in found.items()}
    print(f"{'':22s} {'events/s':>10s}   min … max of {REPETITIONS}")
    for name, rates in found.items():
        print(f"{name:22s} {median[name]:10,.0f}   {min(rates):,.0f} … {max(rates):,.0f}")
    even_rate = median["core, even streams"]
    print(f"core / naive loop:          {even_rate / median['naive loop']:.1f} ×   (at least 6, aim 10)")
    print(f"one hot stream / even:      {median['core, one hot stream'] / even_rate:.2f}     (at least 0.8)")


if __name__ == "__main__":
    main()
