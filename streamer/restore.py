"""Bring a partition back to where its group left it: snapshots from the changelog, then silent replay.

    1. the committed position C, stable; without one, the starting position is committed at once
    2. the changelog's end E, open transactions included: snapshots that C relies on may lie beyond what is stable yet
    3. the changelog, read_committed, until the position (not a record) reaches E
    4. the input from C's low-water mark to C, for each stream from what its snapshot covers
    5. live, at C

It is done in slices, so that polling goes on and restoring stops nobody else.
"""

import logging
from collections import Counter
from collections.abc import Callable
from enum import Enum

import numpy as np

from streamer.checkpoint import low_water_of, position_of
from streamer.core.engine import Engine
from streamer.core.events import Records
from streamer.core.snapshot import Kind, SnapshotFormat
from streamer.delivery import KafkaClient, LogReader, NotAMemberError, Position
from streamer.errors import StateError
from streamer.logs import log
from streamer.tasks import Phase, Task, changelog_of

READ_SECONDS = 3600.0  # for a changelog, whose tombstones stay for 24 h (delete.retention.ms)


class _Step(Enum):
    FETCH = 1
    END = 2
    READ = 3
    REPLAY = 4


class Restore:
    """The restoring of one task. `slice` does a little of it; it is over when the task runs.

    on_unused  told how many streams' snapshots are not used, and why: "foreign" (of another model), "corrupt", or
               "truncated" (the input they rely on is gone)
    """

    def __init__(
        self,
        task: Task,
        group_id: str,
        client: KafkaClient,
        reader: LogReader,
        engine: Engine,
        format_: SnapshotFormat,
        on_unused: Callable[[str, int], None] = lambda reason, streams: None,
    ) -> None:
        self._task = task
        self._group_id = group_id
        self._changelog = changelog_of(group_id, task.partition)
        self._client, self._reader, self._engine, self._format = client, reader, engine, format_
        self._on_unused = on_unused
        self._step = _Step.FETCH
        self._committed = Position(0, "")
        self._is_first = False  # no position was ever committed, as far as anybody knows
        self._end = 0
        self._began = 0.0
        self._unused: dict[str, str] = {}  # streams whose snapshot is of no use, and why
        self.snapshots = self.replayed = 0

    def slice(self, timeout_seconds: float, now: float) -> None:
        """Do what fits in the time; `now` in seconds. Raises NotNowError, to be tried again, and StateError."""
        if self._task.phase is Phase.ASSIGNED:
            self._task.move(Phase.RESTORING)
        match self._step:
            case _Step.FETCH:
                self._fetch()
            case _Step.END:
                self._look(now)
            case _Step.READ if now - self._began > READ_SECONDS:
                log("restore_begun_again", logging.WARNING, partition=_name(self._task), seconds=now - self._began)
                self._again()
            case _Step.READ:
                self._read(timeout_seconds)
            case _Step.REPLAY:
                self._replay(timeout_seconds, now)

    @property
    def is_reading(self) -> bool:
        """Whether it is in the middle of a log, which another restore would take from under it."""
        return self._step in (_Step.READ, _Step.REPLAY)

    def _fetch(self) -> None:
        partition = self._task.partition
        found = self._client.committed([partition])[partition]
        self._is_first = found is None
        self._committed = found or Position(0, "")
        self._step = _Step.END

    def _begin_first(self) -> bool:
        """Commit the position where a partition without one begins; False while the group rebalances.

        Raises StateError where its streams have snapshots: the position they belong to is lost.
        """
        partition = self._task.partition
        if len(self._engine.rows(partition)) or self._unused:
            raise StateError(
                f"partition {_name(self._task)}: the group has no committed offset, but there are snapshots in "
                f"{self._changelog.topic!r}; its offsets expired or were deleted; "
                f"`streamer state reset` for group {self._group_id!r} starts its streams fresh"
            )
        offset = self._client.starting_offset(partition)
        self._committed = position_of(offset, offset)
        try:
            self._client.commit_positions({partition: self._committed})
        except NotAMemberError:
            return False
        return True

    def _look(self, now: float) -> None:
        end, begin = self._reader.end(self._changelog), self._reader.begin(self._changelog)
        self._end = end
        if begin >= end:  # nothing in it: reading would only wait for a record to come
            self._settle()
            return
        self._reader.seek(self._changelog, begin)
        self._began, self._step = now, _Step.READ

    def _read(self, timeout_seconds: float) -> None:
        records, position = self._reader.read(timeout_seconds)
        if records is not None:
            self._take_over(records)
        if position >= self._end:
            self._settle()

    def _settle(self) -> None:
        """Every snapshot is in: where the input is to be read from."""
        if self._is_first and not self._begin_first():
            self._again()
            return
        low_water = self._checked_low_water()
        if low_water is None:
            self._again()
            return
        for reason, count in Counter(self._unused.values()).items():
            self._on_unused(reason, count)
            log("snapshots_unused", logging.WARNING, partition=_name(self._task), reason=reason, streams=count)
        self._task.replays_from = low_water
        if low_water >= self._committed.offset:
            self._go_live()
            return
        self._reader.seek(self._task.partition, low_water)
        self._step = _Step.REPLAY

    def _take_over(self, records: Records) -> None:
        """The last word of each stream in these records: its snapshot, or that it is forgotten."""
        last = dict(zip(map(_text, records.keys), records.values, strict=True))
        kept = {stream: value for stream, value in last.items() if value is not None}
        snapshots, kinds = self._format.decode(list(kept.values()))
        if Kind.FOREIGN in kinds or Kind.CORRUPT in kinds:
            own = [stream for stream, kind in zip(kept, kinds, strict=True) if kind is Kind.OWN]
            unused = {stream: kind.value for stream, kind in zip(kept, kinds, strict=True) if kind is not Kind.OWN}
        else:
            own, unused = list(kept), {}
        gone = [stream for stream, value in last.items() if value is None or stream in unused]
        self._engine.drop(self._task.partition, gone)
        self._engine.restore(self._task.partition, own, snapshots)
        self.snapshots += len(own)
        for stream in self._unused.keys() & last.keys():
            del self._unused[stream]
        self._unused |= unused

    def _checked_low_water(self) -> int | None:
        """The low-water mark, if everything fits together; None where the restore has to begin again.

        Raises StateError where it does not, naming the numbers and the remedy.
        """
        partition, committed = self._task.partition, self._committed
        name, log_topic = _name(self._task), self._changelog.topic
        rows = self._engine.rows(partition)
        beyond = int(self._engine.arena.covers[rows].max(initial=0))
        remedy = f"`streamer state reset` for group {self._group_id!r} starts its streams fresh"
        if beyond > committed.offset:
            if self._client.committed([partition])[partition] != committed:
                return None
            raise StateError(
                f"partition {name}: a snapshot in {log_topic!r} covers the input up to offset {beyond}, but the group "
                f"has committed {committed.offset}; if its offsets were reset on purpose, {remedy}"
            )
        low_water = low_water_of(committed)
        if low_water is None and self._end > 0:
            raise StateError(
                f"partition {name}: offset {committed.offset} was committed by somebody else (its metadata is "
                f"{committed.metadata!r}), so it does not fit the snapshots in {log_topic!r}; {remedy}"
            )
        if low_water is None:
            low_water = committed.offset
        if (end := self._reader.end(partition)) < committed.offset:
            raise StateError(
                f"partition {name}: the group has committed offset {committed.offset}, but the input ends at {end}; "
                f"if the topic was made anew, {remedy}"
            )
        begin = min(self._reader.begin(partition), committed.offset)
        if begin > low_water:
            if self._client.committed([partition])[partition] != committed:
                return None
            self._without_input_before(begin)
        return max(low_water, begin)

    def _without_input_before(self, begin: int) -> None:
        """Streams whose snapshots rely on input that retention has deleted start fresh."""
        partition, arena = self._task.partition, self._engine.arena
        rows = self._engine.rows(partition)
        hurt = [arena.stream[row] for row in rows[arena.covers[rows] < begin].tolist()]
        self._engine.drop(partition, hurt)
        self._unused |= dict.fromkeys(hurt, "truncated")
        self._task.voided.update(hurt)

    def _replay(self, timeout_seconds: float, now: float) -> None:
        records, position = self._reader.read(timeout_seconds)
        if records is not None and (below := _below(records, self._committed.offset)) is not None:
            rows, offsets = self._engine.replay(below)
            self._task.ledger.changed(rows, offsets, now)
            self.replayed += len(below)
            if self._unused:  # their snapshots lack these events, and must not serve the model they are of again
                self._task.voided.update(self._unused.keys() & self._engine.streams(below))
        if position >= self._committed.offset:
            if self._reader.begin(self._task.partition) > self._task.replays_from:
                self._again()  # retention may have overtaken the reading
                return
            self._go_live()

    def _go_live(self) -> None:
        self._engine.go_live(self._task.partition)
        self._task.position = self._task.committed = self._committed.offset
        self._task.move(Phase.RUNNING)
        self._client.resume(self._task.partition, self._committed.offset)

    def _again(self) -> None:
        """From the start: somebody else had the partition in between, or reading has taken too long."""
        self._engine.release(self._task.partition)
        self._task.move(Phase.ASSIGNED)
        self._step, self.snapshots, self._unused = _Step.FETCH, 0, {}


def _below(records: Records, offset: int) -> Records | None:
    """The records before an offset."""
    count = int(np.searchsorted(np.asarray(records.offsets), offset))
    if count == 0:
        return None
    cut = slice(0, count)
    stamps = None if records.timestamps is None else records.timestamps[cut]
    return Records(records.partition, records.offsets[cut], stamps, records.keys[cut], records.values[cut])


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")


def _name(task: Task) -> str:
    return f"{task.partition.topic}-{task.partition.number}"
