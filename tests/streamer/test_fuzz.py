"""Whatever bytes come, the daemon lives, every record is accounted for, and memory does not grow."""

import gc
import json
import random
import tracemalloc
from collections.abc import Mapping, Sequence

import pytest

from streamer.adapters.metrics import Metrics
from streamer.adapters.onnx_session import OnnxModel
from streamer.core.events import REASONS, Partition, Records
from streamer.core.wire import ForecastEncoder
from streamer.daemon import Daemon
from streamer.delivery import Messages, Rebalance
from streamer.pending import Pending
from tests import models
from tests.drive import EVENTS, new_engine
from tests.fake_kafka import FakeKafka

RECORDS, BATCH, STREAMS = 20_000, 500, 50
NOW_MS = 1_700_000_000_000
SNIPPETS = [b"NaN", b"Infinity", b"-", b"1e999", b"null", b"[", b"{", b'"', b"\\u0000", b"\xff", b"\x00",
            b"\xf0\x9f\x98\x80", b"true", b"9" * 400, b"[" * 100, b",", b":", b"\\ud800", b"-0"]  # fmt: skip


def good(random_: random.Random) -> bytes:
    event = {
        "stream": f"s{random_.randrange(80)}",
        "ts": NOW_MS + random_.randrange(-50, 50) * 3_600_000,
        "value": random_.choice(
            [None, random_.gauss(0, 1e3), random_.randrange(-9, 9), 10.0 ** random_.randrange(-300, 300)]
        ),
        "covariates": {"temp": random_.gauss(0, 1)},
        "static": {"site": random_.choice(["north", "mars"])},
    }
    return json.dumps({k: v for k, v in event.items() if random_.random() < 0.98}).encode()


def mutated(random_: random.Random) -> bytes | None:
    if random_.random() < 0.01:
        return None
    if random_.random() < 0.1:
        return random_.randbytes(random_.randrange(200))
    raw = bytearray(good(random_))
    for _ in range(random_.randrange(4)):
        at = random_.randrange(len(raw) + 1)
        match random_.randrange(4):
            case 0:
                raw[at:at] = random_.choice(SNIPPETS)
            case 1:
                del raw[at : at + random_.randrange(1, 20)]
            case 2:
                raw[at : at + 1] = random_.randbytes(1)
            case 3:
                raw[at : at + 10] = random_.choice(SNIPPETS)
    return bytes(raw)


@pytest.fixture
def model(tmp_path):
    design = models.echo(covariates=("temp",), static={"site": ("north", "south")})
    return OnnxModel(models.save(design, tmp_path / "echo.onnx"))


class Measured(FakeKafka):
    """Counts what is committed instead of keeping it, so that only the daemon's own memory is measured."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.published = self.letters = 0
        self.memory: list[int] = []

    def commit(self, output: Sequence[Messages], offsets: Mapping[Partition, int]) -> None:
        self.published += sum(len(m.values) for m in output if m.headers is None)
        self.letters += sum(len(m.values) for m in output if m.headers is not None)
        gc.collect()
        self.memory.append(tracemalloc.get_traced_memory()[0])


def test_random_and_mutated_records_leave_the_daemon_alive_and_every_one_counted(model):
    random_ = random.Random(7)
    raws = [good(random_) if random_.random() < 0.5 else mutated(random_) for _ in range(RECORDS)]
    keys = [None if random_.random() < 0.1 else random_.randbytes(4) for _ in raws]
    script = [
        Records(EVENTS, range(at, at + BATCH), [NOW_MS] * BATCH, keys[at : at + BATCH], raws[at : at + BATCH])
        for at in range(0, RECORDS, BATCH)
    ]
    kafka = Measured([Rebalance([Partition("events", 0)], []), *script])
    metrics = Metrics(kafka.clocks.monotonic)
    pending = Pending(ForecastEncoder(model.manifest), "forecasts", "dead")
    engine = new_engine(model, max_streams=STREAMS)
    tracemalloc.start()
    try:
        # no time passes by itself, so commits come when enough is pending: an interval of 0 commits every batch
        Daemon(engine, kafka, pending, metrics, 0.0, kafka.clocks).run(kafka.stop)
    finally:
        tracemalloc.stop()

    def count(name, **labels):
        return metrics.registry.get_sample_value(name, labels)

    rejected = {reason: count("streamer_events_rejected_total", reason=reason) for reason in REASONS}
    assert count("streamer_records_consumed_total") == RECORDS
    assert count("streamer_events_accepted_total") + sum(rejected.values()) == RECORDS
    assert kafka.published == count("streamer_events_accepted_total")
    assert kafka.letters == sum(rejected.values())
    assert {reason for reason, found in rejected.items() if found} >= REASONS.keys() - {"too_large"}
    assert len(engine.arena) == STREAMS
    half = len(kafka.memory) // 2
    assert max(kafka.memory[half:]) - max(kafka.memory[:half]) < 100_000, kafka.memory
