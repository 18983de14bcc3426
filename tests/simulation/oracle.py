"""What must hold, checked at every commit and every restore against an engine that reads each log uninterrupted.

The numbers in the messages are those of the design's invariants.
"""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from streamer.checkpoint import low_water_of
from streamer.core.engine import Engine
from streamer.core.events import Partition, Records
from streamer.core.snapshot import SnapshotFormat
from streamer.core.wire import DEAD_LETTER_HEADER, ForecastEncoder
from streamer.delivery import Position
from streamer.tasks import Task
from tests.simulation.kafka import Broker, Entry, Transaction, is_visible
from tests.simulation.model import FINGERPRINT, OTHER_FINGERPRINT, Chain

FORECASTS, DEAD = "forecasts", "dead"
FORMAT = SnapshotFormat(FINGERPRINT, Chain.states, 1)
OTHER_FORMAT = SnapshotFormat(OTHER_FINGERPRINT, Chain.states, 1)
State = tuple[int, int, tuple[int, ...], tuple[bytes, ...]]  # last slot, age, codes, tensors


class ViolationError(AssertionError):
    """An invariant does not hold."""


def holds(condition: bool, invariant: int, message: str) -> None:
    if not condition:
        raise ViolationError(f"({invariant}) {message}")


@dataclass
class Sent:
    """One transaction's records of one partition, in order."""

    forecasts: list[tuple[bytes | None, bytes | None]] = field(default_factory=list)
    letters: list[tuple[int, str]] = field(default_factory=list)
    changelog: list[tuple[str, bytes | None]] = field(default_factory=list)


class PartitionOracle:
    """One partition's uninterrupted run up to the committed offset, and what its changelog says by then.

    covers   by stream, of the last snapshot
    changes  (offset, stream) of every accepted event
    """

    def __init__(self, partition: Partition, engine: Engine, start: int) -> None:
        self.partition, self.engine = partition, engine
        self.start = self.committed = self.low_water = start
        self.covers: dict[str, int] = {}
        self.changes: list[tuple[int, str]] = []
        self.born: set[str] = set()
        self._encoder = ForecastEncoder(engine.model.manifest)

    def advance(self, entries: list[Entry], refused: set[int]) -> Sent:
        """What the events should give, those refused for want of room apart."""
        expected = Sent()
        self.born = set()
        for entry in entries:  # one by one: any batching gives the same
            if entry.offset in refused:
                expected.letters.append((entry.offset, "too_many_streams"))
                holds(self._would_begin(entry), 1, f"offset {entry.offset} refused though its stream lives")
                continue
            records = Records(self.partition, [entry.offset], [-1], [entry.key], [entry.value])
            (forecasts,) = self.engine.advance([records]).forecasts
            published = forecasts.published()
            values = self._encoder.encode(published)
            expected.forecasts += [(s.encode(), v) for s, v in zip(published.stream, values, strict=True)]
            expected.letters += [(entry.offset, r.reason) for r in forecasts.rejected]
            self.changes += [(entry.offset, s) for s in forecasts.stream]
            self.born |= {s for s, b in zip(forecasts.stream, forecasts.born.tolist(), strict=True) if b}
        return expected

    def states(self) -> dict[str, State]:
        return states_of(self.engine, self.partition)

    def first_uncovered(self, stream: str) -> int | None:
        """The first of its events that its snapshot does not cover."""
        return next((o for o, s in self.changes if s == stream and o >= self.covers[stream]), None)

    def is_idle(self, stream: str) -> bool:
        slots = {s: state[0] for s, state in self.states().items()}
        limit = self.engine.grid.idle_slots
        return limit is not None and max(slots.values()) - slots[stream] > limit

    def _would_begin(self, entry: Entry) -> bool:
        stream = json.loads(entry.value or b"")["stream"]
        return stream not in self.states() or self.is_idle(stream)


def states_of(engine: Engine, partition: Partition) -> dict[str, State]:
    """What an engine knows of a partition's streams."""
    arena, found = engine.arena, {}
    for row in engine.rows(partition).tolist():
        codes, tensors = tuple(arena.codes[row].tolist()), tuple(t.tobytes() for t in arena.held.read(np.array([row])))
        found[arena.stream[row]] = (int(arena.last_slot[row]), int(arena.age[row]), codes, tensors)
    return found


class Oracle:
    """Watches a broker's commits.

    new_engine  an engine that nothing limits
    """

    def __init__(self, group_id: str, new_engine: Callable[[], Engine]) -> None:
        self._new_engine = new_engine
        self._changelog = f"{group_id}-events-changelog"
        self.broker: Broker
        self.history: dict[Partition, list[Entry]] = defaultdict(list)  # the input's records, deleted ones too
        self.partitions: dict[Partition, PartitionOracle] = {}
        self.commits = self.restores = 0

    def started(self, partition: Partition, offset: int) -> None:
        """A starting position was committed."""
        holds(partition not in self.partitions, 1, f"{partition} was started twice")
        self.partitions[partition] = PartitionOracle(partition, self._new_engine(), offset)

    def on_commit(self, transaction: Transaction) -> None:
        self.commits += 1
        sent: dict[Partition, Sent] = defaultdict(Sent)
        for where, key, value, headers in transaction.output:
            of = sent[Partition("events", where.number)]
            if where.topic == FORECASTS:
                of.forecasts.append((key, value))
            elif where.topic == DEAD:
                named = dict(headers)
                offset, reason = (named[DEAD_LETTER_HEADER + n].decode() for n in ("offset", "exception"))
                of.letters.append((int(offset), reason))
            else:
                holds(where.topic == self._changelog, 1, f"a record for {where}")
                of.changelog.append(((key or b"").decode(), value))
        missing = sent.keys() - transaction.positions.keys()
        holds(not missing, 2, f"records of {missing} without their positions")
        for partition, position in transaction.positions.items():
            self._check(self.partitions[partition], position, sent[partition])

    def _check(self, oracle: PartitionOracle, position: Position, sent: Sent) -> None:
        name, before, now = oracle.partition.number, oracle.committed, position.offset
        holds(now >= before, 1, f"partition {name}: committed offset went back, {before} → {now}")
        low_water = low_water_of(position)
        holds(low_water is not None and oracle.low_water <= low_water <= now, 3,
              f"partition {name}: low-water mark {oracle.low_water} → {low_water} at {now}")  # fmt: skip
        entries = self._between(oracle.partition, before, now)
        refused = {offset for offset, reason in sent.letters if reason == "too_many_streams"}
        expected = oracle.advance(entries, refused)
        holds(sent.forecasts == expected.forecasts, 1,
              f"partition {name}, {before} → {now}: forecasts {sent.forecasts} for {expected.forecasts}")  # fmt: skip
        holds(sent.letters == expected.letters, 1,
              f"partition {name}, {before} → {now}: letters {sent.letters} for {expected.letters}")  # fmt: skip
        oracle.committed, oracle.low_water = now, low_water or 0
        self._check_changelog(oracle, sent.changelog)
        self._check_low_water(oracle)

    def _check_changelog(self, oracle: PartitionOracle, changelog: list[tuple[str, bytes | None]]) -> None:
        name, now, states = oracle.partition.number, oracle.committed, oracle.states()
        streams = [stream for stream, _ in changelog]
        holds(len(set(streams)) == len(streams), 2, f"partition {name}: a stream twice in {streams}")
        for stream, value in changelog:
            if value is None:
                holds(oracle.is_idle(stream), 6, f"partition {name}: {stream} forgotten while it lives")
                oracle.covers.pop(stream, None)
                continue
            found, _ = FORMAT.decode([value])
            covers = int(found.covers[0])
            was = oracle.covers.get(stream, 0)
            holds(was <= covers <= now, 2, f"partition {name}: {stream} covers {was} → {covers} at {now}")
            codes, tensors = tuple(found.codes[0].tolist()), tuple(t[0].tobytes() for t in found.states)
            state = (int(found.last_slot[0]), int(found.age[0]), codes, tensors)
            holds(state == states[stream], 5, f"partition {name}: {stream} snapshotted as {state} at {now}")
            oracle.covers[stream] = covers
        unwritten = oracle.born - set(streams)
        holds(not unwritten, 2, f"partition {name}: {unwritten} begun without a snapshot at {now}")

    def _check_low_water(self, oracle: PartitionOracle) -> None:
        for offset, stream in oracle.changes:
            covers = oracle.covers.get(stream)
            if covers is not None and offset >= covers:
                holds(offset >= oracle.low_water, 4,
                      f"partition {oracle.partition.number}: event {offset} of {stream} (covers {covers}) lies before "
                      f"the low-water mark {oracle.low_water} at {oracle.committed}")  # fmt: skip

    def restored(self, task: Task, engine: Engine) -> None:
        """A task is about to go live, and no other process owns its partition."""
        oracle = self.partitions[task.partition]
        if task.committed != oracle.committed:
            return  # it has lost the partition and does not know yet
        self.restores += 1
        name, at = task.partition.number, task.committed
        found, live = states_of(engine, task.partition), oracle.states()
        holds(found.keys() == oracle.covers.keys(), 5,
              f"partition {name} at {at}: restored {sorted(found)} for {sorted(oracle.covers)}")  # fmt: skip
        for stream, state in found.items():
            holds(
                state == live[stream], 5, f"partition {name} at {at}: {stream} restored as {state} for {live[stream]}"
            )
        dirty = {s: o for s in oracle.covers if (o := oracle.first_uncovered(s)) is not None}
        holds(len(task.ledger) == len(dirty), 5, f"partition {name} at {at}: {len(task.ledger)} dirty for {dirty}")
        low_water = task.ledger.low_water(at)
        holds(low_water == min(dirty.values(), default=at), 5,
              f"partition {name} at {at}: the oldest dirty event is {low_water}, {dirty}")  # fmt: skip

    def finish(self) -> None:
        """All is drained: what a `read_committed` reader sees is what one engine gives that reads the log in one go."""
        for partition, oracle in self.partitions.items():
            name = partition.number
            letters = self._letters(Partition(DEAD, name))
            refused = {offset for offset, reason in letters if reason == "too_many_streams"}
            entries = self._between(partition, oracle.start, oracle.committed)
            left = [e for e in entries if e.offset not in refused]
            columns = [[e.offset for e in left], [-1] * len(left), [e.key for e in left], [e.value for e in left]]
            (forecasts,) = self._new_engine().advance([Records(partition, *columns)]).forecasts
            published = forecasts.published()
            values = ForecastEncoder(Chain.manifest).encode(published)
            expected = [(s.encode(), v) for s, v in zip(published.stream, values, strict=True)]
            holds(self.visible(Partition(FORECASTS, name)) == expected, 1, f"partition {name}: the visible forecasts")
            rejected = [(left[r.index].offset, r.reason) for r in forecasts.rejected]
            lost = [(offset, reason) for offset, reason in letters if offset not in refused]
            holds(lost == rejected, 1, f"partition {name}: the visible dead letters")

    def _letters(self, dead: Partition) -> list[tuple[int, str]]:
        found = []
        for entry in self.broker.log(dead).entries:
            if is_visible(entry):
                named = dict(entry.headers)
                offset, reason = (named[DEAD_LETTER_HEADER + n].decode() for n in ("offset", "exception"))
                found.append((int(offset), reason))
        return found

    def _between(self, partition: Partition, begin: int, end: int) -> list[Entry]:
        """The input's records, those that retention has deleted too."""
        return [e for e in self.history[partition] if begin <= e.offset < end]

    def visible(self, partition: Partition) -> list[tuple[bytes | None, bytes | None]]:
        return [(e.key, e.value) for e in self.broker.log(partition).entries if is_visible(e)]
