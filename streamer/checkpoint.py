"""What one transaction holds, all of it as of one batch boundary.

For every running partition: the forecasts and dead letters since the last boundary, snapshots of some dirty streams,
tombstones of forgotten ones, and the position with its low-water mark. Bytes are made here, at the boundary, so what
is sent does not depend on when it is sent.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streamer.core.arena import CLEAN
from streamer.core.engine import Engine
from streamer.core.events import Headers, Partition
from streamer.core.forecasts import Forecasts
from streamer.core.snapshot import SnapshotFormat
from streamer.core.timegrid import Ints
from streamer.core.wire import ForecastEncoder, dead_letter_headers
from streamer.delivery import Messages, Position
from streamer.tasks import Phase, Task

METADATA = re.compile(r"tc1;lwm=(\d+)")
SOME = 2_000  # snapshots of one boundary when nothing else is to be written
MANY = 20_000  # when the low-water mark trails too far, and at the end


def position_of(offset: int, low_water: int) -> Position:
    """A position with the offset from which a restart replays."""
    return Position(offset, f"tc1;lwm={low_water}")


def low_water_of(position: Position) -> int | None:
    """The low-water mark noted with a position; None where somebody else committed it."""
    found = METADATA.fullmatch(position.metadata)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class Topics:
    """Where output goes; dead_letters empty: rejected records are only counted."""

    forecasts: str
    dead_letters: str
    changelog: Callable[[Partition], Partition]


@dataclass(frozen=True)
class SnapshotPolicy:
    """When snapshots are written; the settings' `state.*`."""

    interval_seconds: float
    share: float
    max_replay_events: int


@dataclass(frozen=True, eq=False)
class Part:
    """One partition's share of a transaction.

    before        the offset committed before
    record_times  (n,) int64 Kafka timestamps of the forecasts' records, epoch milliseconds; NO_TIMESTAMP where unknown
    """

    task: Task
    before: int
    position: Position
    messages: list[Messages]
    record_times: npt.NDArray[np.int64]
    dead_letters: int
    snapshots: int
    snapshot_bytes: int


@dataclass
class _Output:
    """What became of a partition's records since the last boundary."""

    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    letters: list[tuple[bytes | None, bytes | None, Headers]] = field(default_factory=list)
    record_times: list[npt.NDArray[np.int64]] = field(default_factory=list)
    records: int = 0
    bytes: int = 0


class Checkpoint:
    """Collects what happened and cuts it into transactions at batch boundaries."""

    def __init__(
        self, engine: Engine, encoder: ForecastEncoder, format_: SnapshotFormat, topics: Topics, policy: SnapshotPolicy
    ) -> None:
        self._engine = engine
        self._encoder = encoder
        self._format = format_
        self._topics = topics
        self._policy = policy
        self._output: dict[Task, _Output] = {}
        self._allowance = 0.0  # bytes of snapshots that the forecasts written so far have earned

    @property
    def records(self) -> int:
        """Records that wait for the next boundary."""
        return sum(output.records for task, output in self._output.items() if task.is_ours)

    @property
    def bytes(self) -> int:
        """Bytes of forecasts and dead letters that wait for the next boundary."""
        return sum(output.bytes for task, output in self._output.items() if task.is_ours)

    def add(self, task: Task, forecasts: Forecasts, now: float) -> None:
        """Everything that became of some records of a task, at `now` in seconds."""
        output = self._output.setdefault(task, _Output())
        output.keys += [stream.encode() for stream in forecasts.stream]
        encoded = self._encoder.encode(forecasts)
        output.values += encoded
        output.bytes += sum(map(len, encoded))
        output.record_times.append(forecasts.record_times)
        output.records += len(forecasts.records)
        if self._topics.dead_letters:
            records = forecasts.records
            for r in forecasts.rejected:
                headers = dead_letter_headers(r, records)
                output.letters.append((records.keys[r.index], records.values[r.index], headers))
                output.bytes += len(records.values[r.index] or b"")
        task.position = int(forecasts.records.offsets[-1]) + 1
        task.born.append(forecasts.row[forecasts.born])
        if task.voided:  # a new snapshot is as good as a tombstone
            task.voided.difference_update(self._engine.arena.stream[r] for r in forecasts.row[forecasts.born].tolist())
        task.ledger.changed(forecasts.row, forecasts.offsets, now)

    def close(self, task: Task) -> None:
        """A task has ended: nothing of it is written any more."""
        self._output.pop(task, None)

    def cut(self, tasks: Iterable[Task], now: float, everything: bool = False) -> list[Part]:
        """The transaction of this boundary; empty when there is nothing to write.

        everything  snapshot all dirty streams that time allows, at the end of the process
        """
        running = [task for task in tasks if task.phase is Phase.RUNNING]
        idle = not any(self._output.get(task) for task in running)
        parts = [self._part(task, now, idle, everything) for task in running]
        return [part for part in parts if part is not None]

    def _part(self, task: Task, now: float, idle: bool, everything: bool) -> Part | None:
        output = self._output.pop(task, _Output())
        number = task.partition.number
        forgotten = self._engine.evict(task.partition) + task.take_voided(MANY)
        rows = self._rows_due(task, output, now, idle, everything)
        if not (output.records or len(rows) or forgotten):
            return None
        covers = task.position
        values: list[bytes | None] = list(self._format.encode(self._engine.arena.snapshots(rows, covers)))
        task.ledger.clean(rows)
        written = len(values) * self._format.bytes_per_snapshot
        self._allowance -= written

        keys = [self._engine.arena.stream[row].encode() for row in rows.tolist()] + [s.encode() for s in forgotten]
        letters = output.letters
        messages = [
            Messages(Partition(self._topics.forecasts, number), output.keys, output.values),
            Messages(self._topics.changelog(task.partition), keys, values + [None] * len(forgotten)),
            Messages(
                Partition(self._topics.dead_letters, number), [k for k, _, _ in letters], [v for _, v, _ in letters],
                [h for _, _, h in letters],
            ),
        ]  # fmt: skip
        before, task.committed = task.committed, covers
        times = np.concatenate(output.record_times) if output.record_times else np.zeros(0, np.int64)
        position = position_of(covers, task.low_water())
        kept = [m for m in messages if m.keys]
        return Part(task, before, position, kept, times, len(letters), len(values), written)

    def _rows_due(self, task: Task, output: _Output, now: float, idle: bool, everything: bool) -> Ints:
        """The streams to snapshot: the new ones, and the oldest dirty ones as far as the policy lets them."""
        policy, size = self._policy, self._format.bytes_per_snapshot
        born = task.take_born()
        earned = output.bytes * policy.share / (1 - policy.share + 1e-9)
        self._allowance = min(self._allowance + earned, MANY * size)
        trailing = task.position - task.low_water() > policy.max_replay_events
        if everything or trailing:
            limit, before = MANY, now
        else:
            limit = SOME if idle else max(0, int(self._allowance / size) - len(born))
            before = now - policy.interval_seconds
        due = task.ledger.due(before, limit)
        rows = np.concatenate((born, due))
        # a stream may be both, or born and forgotten in the same boundary
        rows = rows[np.sort(np.unique(rows, return_index=True)[1])]
        dirty: Ints = rows[self._engine.arena.stamp[rows] != CLEAN]
        return dirty
