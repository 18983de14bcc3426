"""Whatever bytes come, the daemon lives, every record is accounted for, and memory does not grow."""

import gc
import json
import random
import tracemalloc

from streamer.core.events import REASONS, Partition
from tests.simulation.kafka import Transaction
from tests.simulation.oracle import DEAD, FORECASTS
from tests.simulation.world import Setup, World

EVENTS = Partition("events", 0)
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


class Measured(World):
    """Counts what is committed instead of keeping it, so that only the daemon's own memory is measured."""

    def __init__(self) -> None:
        super().__init__(Setup(partitions=1, records_per_poll=BATCH, max_streams=STREAMS, evict=False, watched=False))
        self.published = self.letters = 0
        self.memory: list[int] = []

    def _committed(self, transaction: Transaction) -> None:
        self.published += sum(where.topic == FORECASTS for where, *_ in transaction.output)
        self.letters += sum(where.topic == DEAD for where, *_ in transaction.output)
        for where in transaction.logs:
            self.broker.log(where).entries.clear()
        transaction.output.clear()
        gc.collect()
        self.memory.append(tracemalloc.get_traced_memory()[0])


def test_random_and_mutated_records_leave_the_daemon_alive_and_every_one_counted():
    random_ = random.Random(7)
    raws = [good(random_) if random_.random() < 0.5 else mutated(random_) for _ in range(RECORDS)]
    world = Measured()
    log = world.broker.log(EVENTS)
    for raw in raws:
        log.append(None, None if random_.random() < 0.1 else random_.randbytes(4), raw, timestamp=NOW_MS)
    tracemalloc.start()
    try:
        world.start(0)
        process = world.processes[0]
        assert process is not None
        while world.processes[0] is process and (process.client.lag() or {EVENTS: 1})[EVENTS]:
            world.turn(0)
            world.elapse(1.0)
        for _ in range(3):
            world.turn(0)
    finally:
        tracemalloc.stop()

    def count(name, **labels):
        return process.metrics.registry.get_sample_value(name, labels)

    rejected = {reason: count("streamer_events_rejected_total", reason=reason) for reason in REASONS}
    assert count("streamer_records_consumed_total") == RECORDS
    assert count("streamer_events_accepted_total") + sum(rejected.values()) == RECORDS
    assert world.published == count("streamer_events_accepted_total")
    assert world.letters == sum(rejected.values())
    assert {reason for reason, found in rejected.items() if found} >= REASONS.keys() - {"too_large"}
    assert len(process.engine.arena) == STREAMS
    half = len(world.memory) // 2
    assert max(world.memory[half:]) - max(world.memory[:half]) < 100_000, world.memory
