"""Events of many streams over several partitions, reproducible from a seed, and their way into a topic."""

import json
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from tests.integration.records import Record, produce

STEP_MS = 60_000
BEGIN_MS = 1_700_000_040_000


@dataclass(frozen=True)
class Workload:
    """How much of it there is; the same seed gives the same events."""

    events: int = 100_000
    streams: int = 2_000
    partitions: int = 6
    seed: int = 1

    def records(self) -> list[Record]:
        """Events in order of time, one in a hundred late, doubled, missing or no event at all."""
        chance = random.Random(self.seed)
        level = [chance.uniform(20, 80) for _ in range(self.streams)]
        found: list[Record] = []
        step = 0
        while len(found) < self.events:
            for s in range(self.streams):
                level[s] += chance.gauss(0, 1)
                found.append(self._record(s, step, round(level[s], 3), chance.random()))
            step += 1
        return found[: self.events]

    def _record(self, stream: int, step: int, value: float, dice: float) -> Record:
        name = f"stream-{stream:05d}"
        if dice < 0.002:
            raw = b"no event"
        else:
            behind = 3 if dice < 0.004 else 1 if dice < 0.006 else 0
            known = None if dice > 0.996 else value
            ts = BEGIN_MS + (step - behind) * STEP_MS
            raw = json.dumps({"stream": name, "ts": ts, "value": known}).encode()
        key = name.encode()
        return Record(raw, key, zlib.crc32(key) % self.partitions)


def feed(bootstrap: str, topic: str, records: Sequence[Record], chunk: int = 20_000) -> None:
    """Append records, so many at a time."""
    for at in range(0, len(records), chunk):
        produce(bootstrap, topic, records[at : at + chunk])
