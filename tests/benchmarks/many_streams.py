"""Ten thousand to a million streams: throughput, memory, the longest pause, restart and restore.

    python -m tests.benchmarks.many_streams                      # the table: half an hour, and 10 GB of disk
    python -m tests.benchmarks.many_streams 4:100000:2000000 …   # PARTITIONS:STREAMS:EVENTS of each case

The model is an untrained GRU-64 with the trainer's standard features and state (24 leads, 3 levels). All events are
there before the daemon starts, stream after stream, tick after tick, so that in the first round every event begins a
stream. The daemon has a core of its own, the broker another; client confluent, all other settings at their defaults,
the output cut by retention. Afterwards the daemon is stopped, started, given one more tick of some streams, whose
forecasts must be those of an engine that saw these streams alone, killed, and started again.
"""

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import confluent_kafka
import numpy as np
import torch

from streamer.adapters.onnx_session import OnnxModel
from streamer.core.events import Partition
from tests.drive import new_engine, run
from tests.drive import records as columns
from tests.integration.broker import Cluster
from tests.integration.daemon import Streamer
from tests.integration.launcher import find_launcher
from tests.integration.records import create_topic
from tests.integration.waiting import eventually
from training.checkpoint import Fitted
from training.config import Config
from training.export import onnx_bytes
from training.fit import manifest_of
from training.network import Forecaster

DEFAULT = ("4:10000:2000000", "2:10000:1000000", "1:10000:500000", "4:100000:2000000", "4:1000000:10000000")
STEP_MS = 3_600_000
BEGIN_MS = 1_700_000_000_000 // STEP_MS * STEP_MS
SETTINGS = {"log.retention.check.interval.ms": 5_000, "log.initial.task.delay.ms": 1_000}
SHORT_LIVED = {"segment.bytes": 64 << 20, "retention.bytes": 256 << 20}
ONE_MORE = 40_000  # streams that get another tick after the restart
CHECKED = 200  # streams whose last forecast is held against an engine of their own
TOLERANCE = 1e-4  # of a stream's scale
DAEMON_CPU, BROKER_CPU = 1, 0
RESTORED = re.compile(r"event=partition_restored .*streams=(\d+) replayed=(\d+) seconds=([\d.]+)")


@dataclass(frozen=True)
class Case:
    """So many streams over partitions, and events in all."""

    partitions: int
    streams: int
    events: int

    @classmethod
    def of(cls, text: str) -> "Case":
        return cls(*map(int, text.split(":")))

    def name(self, stream: int) -> str:
        return f"meter-{stream:07d}"

    def lines(self, tick: int) -> Iterator[tuple[int, str, bytes]]:
        """Stream, id and event of every stream at a tick; the same at every call."""
        values = 50 + 10 * np.random.default_rng(tick).normal(size=self.streams)
        end = b',"value":%.2f}'
        ts = b',"ts":%d' % (BEGIN_MS + tick * STEP_MS)
        for stream, value in enumerate(values.tolist()):
            name = self.name(stream)
            yield stream, name, b'{"stream":"' + name.encode() + b'"' + ts + end % value

    @property
    def ticks(self) -> int:
        return self.events // self.streams


@dataclass
class Found:
    """What was measured of one case; rates are events a second, memory is the most that was resident, in bytes."""

    case: Case
    births: float = 0.0
    rate: float = 0.0
    cpu_per_million: float = 0.0
    memory: int = 0
    pauses: list[float] = field(default_factory=list)
    longest: list[tuple[float, float, dict[str, float]]] = field(default_factory=list)
    stop_seconds: float = 0.0
    restores: dict[str, tuple[float, int, float]] = field(default_factory=dict)  # seconds to ready, replayed, rate
    worst: float = 0.0


def export(path: Path) -> Path:
    """The trainer's standard GRU-64, untrained."""
    torch.manual_seed(1)
    config = Config.model_validate({"name": "gru-64", "levels": [0.1, 0.5, 0.9], "horizon": 24})
    fitted = Fitted(config, Forecaster(config).eval(), manifest_of(config, {}))
    path.write_bytes(onnx_bytes(fitted.network, fitted.manifest))
    return path


def preload(bootstrap: str, topic: str, case: Case, ticks: Sequence[int], streams: int | None = None) -> None:
    """Append the events of these ticks, each stream's to its partition."""
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": bootstrap,
            "compression.type": "lz4",
            "linger.ms": 20,
            "queue.buffering.max.kbytes": 65536,
        }
    )
    for tick in ticks:
        parts: list[list[dict[str, bytes]]] = [[] for _ in range(case.partitions)]
        for stream, name, line in case.lines(tick):
            if streams is not None and stream >= streams:
                break
            parts[stream % case.partitions].append({"key": name.encode(), "value": line})
        for number, part in enumerate(parts):
            while part:
                taken = producer.produce_batch(topic, part[:20_000], partition=number)
                part = part[taken:] if taken else part
                producer.poll(0 if taken else 0.05)
    producer.flush()


def pin(pid: int, cpu: int) -> None:
    """Keep a process, all its threads, on one core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {cpu % (os.cpu_count() or 1)})


class Scene:
    """Topics of one case and the daemons that serve them."""

    def __init__(self, cluster: Cluster, folder: Path, model: Path, case: Case) -> None:
        self.cluster, self.folder, self.case = cluster, folder, case
        self.events = create_topic(cluster.bootstrap, "events", case.partitions)
        self.forecasts = create_topic(cluster.bootstrap, "forecasts", case.partitions, settings=SHORT_LIVED)
        self.turns = folder / f"{self.events}.json"
        self.settings = {
            "model.path": str(model),
            "kafka.client": "confluent",
            "kafka.bootstrap_servers": cluster.bootstrap,
            "kafka.group_id": f"group-{self.events}",
            "kafka.group_instance_id": "one",
            "input.topics": [self.events],
            "output.topic": self.forecasts,
        }

    @contextmanager
    def daemon(self) -> Iterator[Streamer]:
        program = ("tests.benchmarks.timed_run", str(self.turns))
        streamer = Streamer(self.folder, self.settings, f"run-{time.time_ns()}", program)
        pin(streamer.process.pid, DAEMON_CPU)
        try:
            yield streamer
        finally:
            streamer.kill()


class Sample(NamedTuple):
    """Forecasts published and CPU seconds used at a moment."""

    seconds: float
    done: float
    cpu: float


def samples(streamer: Streamer, events: int) -> list[Sample]:
    """Now and then from the first forecast on until all are published."""
    found: list[Sample] = []
    while not found or found[-1].done < events:
        time.sleep(0.5)  # each look takes the daemon some milliseconds
        done, cpu = streamer.metrics("streamer_forecasts_published_total", "process_cpu_seconds_total")
        if done:
            found.append(Sample(time.perf_counter(), done, cpu))
    return found


def seconds_at(found: Sequence[Sample], events: float) -> float:
    """When so many were published."""
    return float(np.interp(events, [s.done for s in found], [s.seconds for s in found]))


def peak_memory(pid: int) -> int:
    """The most that a process had resident, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def measure(cluster: Cluster, folder: Path, model: Path, case: Case) -> Found:
    """Run one case."""
    scene, found = Scene(cluster, folder, model, case), Found(case)
    preload(cluster.bootstrap, scene.events, case, range(case.ticks))
    with scene.daemon() as streamer:
        done = samples(streamer, case.events)
        first, last = done[0], done[-1]
        measured = case.events - first.done
        found.cpu_per_million = (last.cpu - first.cpu) / measured * 1e6
        found.memory = peak_memory(streamer.process.pid)
        found.rate = measured / (last.seconds - first.seconds)
        born = max(case.streams, first.done)
        found.births = (born - first.done) / max(1e-9, seconds_at(done, born) - first.seconds)
        stop = time.perf_counter()
        assert streamer.stop() == 0, streamer.log
        found.stop_seconds = time.perf_counter() - stop
    note_turns(found, scene)
    more = min(case.streams, ONE_MORE)
    preload(cluster.bootstrap, scene.events, case, [case.ticks], more)
    found.restores["stopped"] = restart(scene, more)
    found.restores["killed"] = restart(scene, 0)
    note_turns(found, scene)
    found.worst = worst_difference(cluster.bootstrap, scene, model)
    return found


def note_turns(found: Found, scene: Scene) -> None:
    """Add the turns of the daemon that was stopped last, those of its restore too."""
    turns = json.loads(scene.turns.read_text())
    found.pauses += turns["seconds"]
    found.longest = sorted([*found.longest, *turns["longest"]], key=lambda turn: -turn[0])


def restart(scene: Scene, events: int) -> tuple[float, int, float]:
    """Seconds until a daemon is ready, records it replayed, streams a second; then it is killed, or stopped at once."""
    with scene.daemon() as streamer:
        begin = time.perf_counter()
        eventually(lambda: streamer.get("/readyz"), "the daemon is ready", 600)
        seconds = time.perf_counter() - begin
        eventually(lambda: streamer.metric("streamer_forecasts_published_total") >= events, "all forecast", 600)
        parts = [tuple(map(float, part)) for part in RESTORED.findall(streamer.log)]
        if not events:
            assert streamer.stop() == 0, streamer.log
    return seconds, int(sum(replayed for _, replayed, _ in parts)), sum(streams for streams, _, _ in parts) / seconds


def worst_difference(bootstrap: str, scene: Scene, path: Path) -> float:
    """Of the last forecasts of some streams, against an engine that saw them alone; shares of a stream's scale."""
    case, model = scene.case, OnnxModel(path)
    engine = new_engine(model, max_streams=CHECKED)
    checked = range(min(case.streams, ONE_MORE) - CHECKED, min(case.streams, ONE_MORE))
    expected = {}
    for tick in range(case.ticks + 1):
        lines = [line for stream, _, line in case.lines(tick) if stream in checked]
        seen, _ = run(engine, columns(lines, tick * CHECKED, Partition("events", 0)))
        expected = {s.stream: s.quantiles for s in seen}
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "check", "isolation.level": "read_committed"}
    )
    partitions = [confluent_kafka.TopicPartition(scene.forecasts, n) for n in range(case.partitions)]
    ends = {p: consumer.get_watermark_offsets(p, timeout=10)[1] for p in partitions}
    for p in partitions:
        p.offset = max(0, ends[p] - 2_000)
    consumer.assign(partitions)
    worst, left = 0.0, dict(expected)
    deadline = time.monotonic() + 60
    while left and time.monotonic() < deadline:
        for message in consumer.consume(1000, 0.5):
            forecast = json.loads(message.value())
            if forecast["origin"] == BEGIN_MS + case.ticks * STEP_MS and forecast["stream"] in left:
                numbers = np.array(list(forecast["quantiles"].values())).T
                other = left.pop(forecast["stream"])
                worst = max(worst, float(np.abs(numbers - other).max() / np.abs(other).max()))
    consumer.close()
    assert not left, f"no forecast of {sorted(left)[:3]} … after the restart"
    assert worst <= TOLERANCE, f"forecasts after the restart differ by {worst}"
    return worst


def report(found: Sequence[Found]) -> None:
    first = found[0]
    print(
        "partitions  streams     events   new/s     all/s   share  CPU-s/M  RSS MB  B/stream   longest turn, p99.9 ms"
    )
    for f in found:
        case, pauses = f.case, np.sort(f.pauses) * 1000
        more = case.streams - first.case.streams
        each = (f.memory - first.memory) / more if more else 0
        print(
            f"{case.partitions:10d} {case.streams:8,d} {case.events:10,d} {f.births:7,.0f} {f.rate:9,.0f} "
            f"{f.rate / first.rate:7.2f} {f.cpu_per_million:8.1f} {f.memory / 1e6:7.0f} {each:9,.0f}   "
            f"{pauses[-1]:.0f}, {pauses[int(len(pauses) * 0.999)]:.0f} of {len(pauses):,} turns"
        )
    for f in found:
        print(f"{f.case.streams:,} streams: stopped in {f.stop_seconds:.1f} s", end="")
        for how, (ready, replayed, rate) in f.restores.items():
            print(f"; {how}: ready after {ready:.1f} s, {rate:,.0f} streams/s, {replayed:,} replayed", end="")
        print(f"; worst difference after it {f.worst:.1e}")
        for seconds, at, parts in f.longest[:5]:
            shares = ", ".join(f"{name} {1000 * s:.0f}" for name, s in sorted(parts.items(), key=lambda p: -p[1]))
            print(f"    {1000 * seconds:6.0f} ms at {at:.1f} s: {shares}")


def main() -> None:
    cases = [Case.of(text) for text in sys.argv[1:] or DEFAULT]
    cluster = Cluster(find_launcher(), settings=SETTINGS)
    found = []
    try:
        cluster.start()
        pin(cluster.brokers[0].process.pid, BROKER_CPU)
        with tempfile.TemporaryDirectory() as folder:
            model = export(Path(folder) / "gru-64.onnx")
            for case in cases:
                found.append(measure(cluster, Path(folder), model, case))
                report(found)
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
