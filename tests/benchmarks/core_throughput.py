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
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streamer.adapters.forecast_text import forecast_writer
from streamer.adapters.onnx_session import OnnxModel
from streamer.core.contract import Block
from streamer.core.engine import Engine
from streamer.core.events import Partition, Records
from streamer.core.wire import ForecastEncoder, Writer, write_lines
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


class Cost(NamedTuple):
    """Events per second, and CPU seconds per million events, which other load on the machine disturbs less."""

    rate: float
    cpu: float


class Stopwatch:
    """Wall and CPU time since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def cost(self, events: int) -> Cost:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Cost(events / wall, cpu / events * 1e6)


def core(model: OnnxModel, lines: Sequence[bytes], write: Writer, every: int = 1) -> Cost:
    """The engine's and the encoder's cost; the first batch, in which every stream is new, is not timed."""
    engine: Engine = new_engine(model, max_streams=2 * STREAMS)
    engine.grid = replace(engine.grid, every=every)
    encoder = ForecastEncoder(model.manifest, write=write)
    batches = [
        Records(Partition("events", 0), range(at, at + BATCH), None, [None] * BATCH, lines[at : at + BATCH])
        for at in range(0, len(lines), BATCH)
    ]
    engine.advance(batches[:1])
    watch, published = Stopwatch(), 0
    for records in batches[1:]:
        (forecasts,) = engine.advance([records]).forecasts
        published += len(encoder.encode(forecasts.published()))
    cost = watch.cost(len(lines) - BATCH)
    assert every > 1 or published == len(lines) - BATCH
    return cost


def naive(model: OnnxModel, lines: Sequence[bytes]) -> Cost:
    """The cost of the loop one writes first."""
    states: dict[str, list[np.ndarray]] = {}
    one, here = np.ones(1, np.int64), np.zeros(1, np.int64)
    levels = [str(level) for level in model.manifest.levels]
    watch, published = Stopwatch(), 0
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
    return watch.cost(published)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        design = models.gru(hidden=64, horizon=24, step_ms=STEP_MS)
        model = OnnxModel(models.save(design, Path(folder) / "gru-64.onnx"))
        even, hot = even_lines(BATCH * (BATCHES + 1)), hot_lines(BATCH * (BATCHES + 1))
        runs: dict[str, Callable[[], Cost]] = {
            "naive loop": lambda: naive(model, even[:NAIVE_EVENTS]),
            "core, even streams": lambda: core(model, even, forecast_writer()),
            "core, one hot stream": lambda: core(model, hot, forecast_writer()),
            "core, written by Python": lambda: core(model, even, write_lines),
            "core, every 12th published": lambda: core(model, even, forecast_writer(), every=12),
        }
        found: dict[str, list[Cost]] = {name: [] for name in runs}
        for _ in range(REPETITIONS):
            for name, run in runs.items():
                found[name].append(run())
    rate = {name: statistics.median(cost.rate for cost in costs) for name, costs in found.items()}
    print(f"{'':28s} {'events/s':>9s}   {'min … max of ' + str(REPETITIONS):24s} CPU-s per million events")
    for name, costs in found.items():
        rates = [cost.rate for cost in costs]
        cpu = statistics.median(cost.cpu for cost in costs)
        print(f"{name:28s} {rate[name]:9,.0f}   {f'{min(rates):,.0f} … {max(rates):,.0f}':24s} {cpu:6.2f}")
    if forecast_writer() is write_lines:
        print("the C library was not built here, so Python wrote everything")
    even_rate = rate["core, even streams"]
    print(f"core / naive loop:          {even_rate / rate['naive loop']:.1f} ×   (at least 6, aim 10)")
    print(f"one hot stream / even:      {rate['core, one hot stream'] / even_rate:.2f}     (at least 0.8)")


if __name__ == "__main__":
    main()
