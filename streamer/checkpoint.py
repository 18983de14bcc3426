"""What one transaction holds, all of it as of one batch boundary.

For every running partition: the forecasts and dead letters since the last boundary, snapshots of some dirty streams,
tombstones of forgotten ones, and the position with its low-water mark. Bytes are made here, at the boundary, so what
is sent does not depend on when it is sent.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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
MANY = 20_000  # when the low-water mark trails too far, and at the end; as many tombstones of unusable snapshots
LONGEST_DIRTY_SECONDS = 24 * 3600.0  # whatever snapshots cost: retention may delete what a restart would replay
BOUNDARY_BYTES = 16 << 20  # of these snapshots, however large one is
SHARE_BYTES = (
    4 << 20
)  # of them in one share: what half a megabyte a second takes to the brokers in a transaction's time


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
    """A partition's share of a transaction, whole by itself once those of its task before it are committed.

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
    births: int = 0


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
        self._most = max(1, min(MANY, BOUNDARY_BYTES // format_.bytes_per_snapshot))  # snapshots of one boundary
        self._allowance = 0.0  # bytes of snapshots that the forecasts written so far have earned
        self._recent, self._recent_at = 0.0, 0.0  # earned in about the last interval, and up to when

    @property
    def records(self) -> int:
        """Records that wait for the next boundary."""
        return sum(output.records for task, output in self._output.items() if task.is_ours)

    @property
    def bytes(self) -> int:
        """Bytes that wait for the next boundary, the snapshots of streams begun since the last one included."""
        each = self._format.bytes_per_snapshot
        return sum(output.bytes + output.births * each for task, output in self._output.items() if task.is_ours)

    def add(self, task: Task, forecasts: Forecasts, now: float) -> None:
        """Everything that became of some records of a task, at `now` in seconds."""
        output = self._output.setdefault(task, _Output())
        published = forecasts.published()
        output.keys += in_bytes(published.stream)
        values = self._encoder.encode(published)
        output.values += values
        output.bytes += sum(map(len, values))
        output.record_times.append(published.record_times)
        output.records += len(forecasts.records)
        if self._topics.dead_letters:
            records = forecasts.records
            for r in forecasts.rejected:
                headers = dead_letter_headers(r, records)
                output.letters.append((records.keys[r.index], records.values[r.index], headers))
                output.bytes += len(records.values[r.index] or b"")
        task.position = int(forecasts.records.offsets[-1]) + 1
        born = forecasts.row[forecasts.born]
        task.born.append(born)
        output.births += len(born)
        if task.voided:  # a new snapshot is as good as a tombstone
            for row in born.tolist():
                task.voided.pop(self._engine.arena.stream[row], None)
        task.ledger.changed(forecasts.row, forecasts.offsets, now)

    def close(self, task: Task) -> None:
        """A task has ended: nothing of it is written any more."""
        self._output.pop(task, None)

    def cut(self, tasks: Iterable[Task], now: float, everything: bool = False) -> list[Part]:
        """The shares of this boundary, those of one partition in their order; empty when there is nothing to write.

        everything  snapshot all dirty streams that time allows, at the end of the process

        1. forget silent streams   2. the new ones' first snapshots   3. those of streams built anew, before their
        task runs   4. of the other dirty ones, the oldest of all
        """
        open_ = [task for task in tasks if task.phase is Phase.RUNNING or (task.is_ours and task.saving)]
        outputs = {task: self._output.pop(task, _Output()) for task in open_}
        forgotten = self._forgotten(open_)
        born = {task: self._dirty(task.take_born()) for task in open_}
        rebuilt = self._rebuilt(open_)
        due = self._due(outputs, born, now, everything)
        parts: list[Part] = []
        for task in open_:
            again = np.concatenate((rebuilt[task], due[task]))
            again = again[np.sort(np.unique(again, return_index=True)[1])]
            rows = np.concatenate((born[task], again[~np.isin(again, born[task])]))
            if outputs[task].records or len(rows) or forgotten[task]:
                parts += self._parts(task, outputs[task], forgotten[task], rows, len(born[task]))
        return parts

    def _forgotten(self, tasks: Sequence[Task]) -> dict[Task, list[str]]:
        """Streams whose tombstones are due: after all that was built anew is saved, since that counts the others."""
        evicted = self._engine.evict([task.partition for task in tasks if not task.saving])
        forgotten, left = {}, MANY
        for task in tasks:
            voided = task.take_voided(left) if left and not (task.saving and len(task.rebuilt)) else []
            forgotten[task] = evicted.get(task.partition, []) + voided
            left -= len(voided)
        return forgotten

    def _rebuilt(self, tasks: Sequence[Task]) -> dict[Task, Ints]:
        """Those of the streams built anew that are saved now, of one task after another."""
        rebuilt, left = {}, self._most
        for task in tasks:
            taken = task.take_rebuilt(left)
            left -= len(taken)
            rebuilt[task] = self._dirty(taken)
        return rebuilt

    def _parts(self, task: Task, output: _Output, forgotten: list[str], rows: Ints, first: int) -> Iterable[Part]:
        """One partition's shares: its output with the `first` of the rows at least, then the rest of them."""
        each = max(1, SHARE_BYTES // self._format.bytes_per_snapshot)
        edge = max(first, min(each, len(rows)))
        yield self._part(task, output, forgotten, rows[:edge])
        for at in range(edge, len(rows), each):
            yield self._part(task, _Output(), [], rows[at : at + each])

    def _part(self, task: Task, output: _Output, forgotten: list[str], rows: Ints) -> Part:
        number, covers = task.partition.number, task.position
        values: list[bytes | None] = list(self._format.encode(self._engine.arena.snapshots(rows, covers)))
        task.ledger.clean(rows)
        keys = in_bytes([self._engine.arena.stream[row] for row in rows.tolist()] + forgotten)
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
        written = len(values) * self._format.bytes_per_snapshot
        return Part(task, before, position, kept, times, len(letters), len(values), written)

    def _due(
        self, outputs: Mapping[Task, _Output], born: Mapping[Task, Ints], now: float, everything: bool
    ) -> Mapping[Task, Ints]:
        """The dirty streams to snapshot, by task: the oldest of all partitions, as far as the policy lets them."""
        policy, size = self._policy, self._format.bytes_per_snapshot
        self._earn(sum(output.bytes for output in outputs.values()), now)
        self._spend(sum(map(len, born.values())))
        trailing = {task for task in outputs if task.position - task.low_water() > policy.max_replay_events}
        urgent = [task for task in outputs if everything or task in trailing]
        others = [task for task in outputs if task not in urgent]
        due = _oldest(urgent, now, self._most)
        left = self._most - sum(map(len, due.values()))
        idle = not any(output.records for output in outputs.values())
        affordable = SOME if idle else max(0, int(self._allowance / size))
        aged = sum(map(len, _oldest(others, now - LONGEST_DIRTY_SECONDS, left).values()))
        affordable = max(affordable, aged)  # of a quiet partition beside one that begins streams without end
        due |= _oldest(others, now - policy.interval_seconds, min(left, affordable))
        self._spend(sum(map(len, due.values())))
        return due

    def _earn(self, written: int, now: float) -> None:
        """Forecasts of so many bytes allow for snapshots; what is not spent is kept for one boundary at most."""
        policy, most = self._policy, MANY * self._format.bytes_per_snapshot
        earned = written * policy.share / (1 - policy.share + 1e-9)
        passed, self._recent_at = now - self._recent_at, now
        self._recent = self._recent * math.exp(-passed / max(policy.interval_seconds, 1e-9)) + earned
        self._allowance = min(self._allowance + earned, most)

    def _spend(self, snapshots: int) -> None:
        """Snapshots are written, allowed or not: what could not be postponed is paid back within some intervals.

        Without this limit a million first snapshots would keep all others waiting for hours. While more of them come
        than their share allows for, nothing else is written; once they stop, the share holds again.
        """
        spent = snapshots * self._format.bytes_per_snapshot
        self._allowance = max(self._allowance - spent, -self._recent)

    def _dirty(self, rows: Ints) -> Ints:
        """Those that are: a stream may be begun and forgotten in the same boundary."""
        dirty: Ints = rows[self._engine.arena.stamp[rows] != CLEAN]
        return dirty


def in_bytes(texts: Sequence[str]) -> list[bytes]:
    """Each text in UTF-8; all of them at once, unless one has a line feed."""
    found = "\n".join(texts).encode().split(b"\n")
    return found if len(found) == len(texts) else [text.encode() for text in texts]


def _oldest(tasks: Sequence[Task], before: float, limit: int) -> dict[Task, Ints]:
    """Of the streams that have been dirty since `before`, the oldest of all tasks together, at most `limit`."""
    found = [task.ledger.due(before, limit) for task in tasks]
    owner = np.repeat(np.arange(len(tasks)), [len(rows) for rows, _ in found])
    rows = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in found)])
    times = np.concatenate([np.zeros(0), *(times for _, times in found)])
    first = np.argsort(times, kind="stable")[:limit]
    return {task: rows[first[owner[first] == i]] for i, task in enumerate(tasks)}
