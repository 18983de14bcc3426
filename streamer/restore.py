"""Bring a partition back to where its group left it: snapshots from the changelog, then silent replay.

    1. the committed position C, stable; without one, the starting position is committed at once
    2. the changelog's end E, open transactions included: snapshots that C relies on may lie beyond what is stable yet
    3. the changelog, read_committed, until the position (not a record) reaches E
    4. the input from C's low-water mark to C, for each stream from what its snapshot covers
    5. live, at C

With `state.warm_from_input_steps` N, streams whose snapshot is of no use, another model's above all, are built anew
from the input: the replay begins N records for each stream of the partition before C. On a regular grid S streams have
at most N x S accepted events in N slots, so it reaches N steps back, or more where streams are slow; records have an
order that everybody sees alike, while their times may be anything. The partition goes live once the snapshots of all
rebuilt streams are written, and then tombstones for the rest: a crash in between finds C where it was, and builds the
same states again; after it, nothing is left to be built from elsewhere.

It is done in slices, so that polling goes on and restoring stops nobody else. Brokers are asked beside the loop, and a
slice looks whether the answer is there.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from streamer.batches import BatchLimit
from streamer.checkpoint import position_of
from streamer.core.engine import Engine
from streamer.core.events import Records
from streamer.core.snapshot import Kind, SnapshotFormat
from streamer.delivery import KafkaClient, LogReader, NotAMemberError, Position
from streamer.found import Input, Saved
from streamer.logs import log
from streamer.questions import Answer, NotYetError, Question, ask_at_once
from streamer.tasks import Phase, Task, changelog_of
from streamer.unusable import Unusable

STANDSTILL_SECONDS = 30.0  # what a dead producer leaves open ends within 20 s: its time limit, and the look at it
LIMIT_SECONDS = 3600.0  # of a restore: changelogs keep their tombstones for 24 h (delete.retention.ms)
UNUSED = {Kind.FOREIGN: "other_model", Kind.CORRUPT: "corrupt"}


class _Step(Enum):
    FETCH = 1
    END = 2
    READ = 3
    LOOK = 4
    PREPARE = 5
    REPLAY = 6
    CHECK = 7
    CONCLUDE = 8
    SAVE = 9
    LIVE = 10


@dataclass(frozen=True)
class RestorePolicy:
    """What is alike in all restores of a group.

    warm_from_input_steps  how far back streams without a usable snapshot are built from; 0: they start fresh
    on_reset               told how many streams start fresh, and why: "other_model", "corrupt", or "input_truncated"
    on_rebuilt             told how many streams were built anew from the input
    on_lost                told how many records were deleted before anybody read them
    ask                    begins to ask brokers something; what it returns waits for the answer
    """

    group_id: str
    warm_from_input_steps: int = 0
    on_reset: Callable[[str, int], None] = lambda reason, streams: None
    on_rebuilt: Callable[[int], None] = lambda streams: None
    on_lost: Callable[[int], None] = lambda records: None
    ask: Callable[[Question], Answer] = ask_at_once


class Restore:
    """The restoring of one task. `slice` does a little of it; it is over when the task runs."""

    def __init__(
        self,
        task: Task,
        policy: RestorePolicy,
        client: KafkaClient,
        reader: LogReader,
        engine: Engine,
        format_: SnapshotFormat,
    ) -> None:
        self._task = task
        self._policy, self._group_id = policy, policy.group_id
        self._changelog = changelog_of(policy.group_id, task.partition)
        self._client, self._reader, self._engine, self._format = client, reader, engine, format_
        self._step = _Step.FETCH
        self._answer: Answer | None = None  # to what was asked in this step
        self._work: Iterator[None] = iter(())  # of this step, in pieces
        self._committed = Position(0, "")
        self._is_first = False  # no position was ever committed, as far as anybody knows
        self._end = 0
        self._beyond: int | None = None  # the furthest offset that a snapshot covers, once all are in
        self._lost = range(0)  # offsets of the input from the committed one on that are not there any more
        self._began = 0.0
        self._unused = Unusable(task, engine)
        self._is_cut = False  # whether retention has deleted input that was to be replayed
        self._at = 0  # the next offset of what is being read
        self._left: Records | None = None  # of what was read before it, to be replayed
        self._is_sought = False  # whether the reader was sent there
        self._limit = BatchLimit(numbers=1, state_bytes=1)
        self._furthest = (0, 0)  # the step and offset reached in any attempt
        self._moved = 0.0  # when either changed last
        self._gap: int | None = None  # where the first offsets were not there any more, or never: markers have some
        self.snapshots = self.replayed = 0

    def slice(self, timeout_seconds: float, now: float) -> bool:
        """Do what fits in the time; `now` in seconds. Whether it came further than ever before, in any attempt.

        Raises NotNowError, to be tried again (NotYetError: it is under way), and StateError.
        """
        before = self._reached
        self._do(timeout_seconds, now)
        if self._reached != before:
            self._moved = now
        got_on = self._reached > self._furthest
        self._furthest = max(self._furthest, self._reached)
        return got_on

    def _do(self, timeout_seconds: float, now: float) -> None:
        if self._task.phase is Phase.ASSIGNED:
            self._task.move(Phase.RESTORING)
        match self._step:
            case _Step.FETCH:
                self._fetch(timeout_seconds, now)
            case _Step.END | _Step.READ if now - self._began > LIMIT_SECONDS:
                self._too_slow(now)
            case _Step.END:
                self._find_end(timeout_seconds)
            case _Step.READ:
                self._read(timeout_seconds)
            case _Step.LOOK:
                self._settle(timeout_seconds)
            case _Step.PREPARE | _Step.CONCLUDE:
                next(self._work, None)
            case _Step.REPLAY:
                self._replay(timeout_seconds, now)
            case _Step.CHECK:
                self._check(timeout_seconds, now)
            case _Step.SAVE if not (len(self._task.rebuilt) or self._task.voided):
                self._go_live()

    @property
    def is_reading(self) -> bool:
        """Whether it is in the middle of a log, which another restore would take from under it."""
        return self._step in (_Step.READ, _Step.REPLAY)

    @property
    def is_saving(self) -> bool:
        """Whether it waits for snapshots to be under way; others may be restored meanwhile."""
        return self._step is _Step.SAVE

    def stands_still(self, now: float) -> bool:
        """Whether it has been reading for long and got nowhere: a leader is away, or a transaction hangs."""
        return self.is_reading and now - self._moved > STANDSTILL_SECONDS

    def set_aside(self) -> None:
        """Give the reading up, to begin again some other time: another one needs the reader."""
        self._again()

    @property
    def _reached(self) -> tuple[int, int]:
        return self._step.value, self._at - (0 if self._left is None else len(self._left))

    def _asked(self, question: Question, timeout_seconds: float) -> Any:
        """The answer to a step's only question. Raises NotYetError while there is none, and what the question does."""
        if self._answer is None:
            self._answer = self._policy.ask(question)
        try:
            found = self._answer(timeout_seconds)
        except NotYetError:
            raise
        except Exception:
            self._answer = None  # to be asked again
            raise
        self._answer = None
        return found

    def _fetch(self, timeout_seconds: float, now: float) -> None:
        found = self._asked(self._fetched, timeout_seconds)
        self._is_first = found is None
        self._committed = found or Position(0, "")
        self._began, self._step = now, _Step.END

    def _fetched(self) -> Position | None:
        return self._client.committed([self._task.partition])[self._task.partition]

    def _begin_first(self, offset: int) -> bool:
        """Commit the position where a partition without one begins; False while the group rebalances."""
        self._committed = position_of(offset, offset)
        try:
            self._client.commit_positions({self._task.partition: self._committed})
        except NotAMemberError:
            return False
        return True

    def _find_end(self, timeout_seconds: float) -> None:
        reader, changelog = self._reader, self._changelog
        end, begin = self._asked(lambda: (reader.end(changelog), reader.begin(changelog)), timeout_seconds)
        self._end = end
        if begin >= end:  # nothing in it: reading would only wait for a record to come
            self._step = _Step.LOOK
            self._settle(timeout_seconds)
            return
        self._reader.seek(self._changelog, begin)
        self._at, self._step = begin, _Step.READ

    def _read(self, timeout_seconds: float) -> None:
        records, position = self._reader.read(timeout_seconds)
        if records is not None:
            self._take_over(records)
        self._at = position
        if position >= self._end:
            self._step = _Step.LOOK
            self._settle(timeout_seconds)

    def _settle(self, timeout_seconds: float) -> None:
        """Every snapshot is in: where the input is to be read from.

        Raises StateError where what was found does not fit together.
        """
        saved = self._saved()
        if self._is_first and (saved.beyond or len(self._unused)):
            raise saved.lost_position()
        input_: Input = self._asked(lambda: self._looked(saved), timeout_seconds)
        if not input_.unchanged or (input_.start is not None and not self._begin_first(input_.start)):
            self._again()
            return
        self._work, self._step = self._prepared(self._saved().low_water(input_.end), input_.begin), _Step.PREPARE
        next(self._work, None)

    def _prepared(self, low_water: int, first: int) -> Iterator[None]:
        """Forget streams that `first`, where the input begins, leaves without a past; begin what is built anew.

        Then replay from the low-water mark, or further back where streams are to be built anew. One of which retention
        has deleted input that its snapshot lacks is not: it starts fresh.
        """
        committed, steps = self._committed.offset, self._policy.warm_from_input_steps
        self._lost = range(committed, first)  # to be passed over: reading goes on with what is there
        self._is_cut = min(first, committed) > low_water
        if self._is_cut:
            low_water = min(first, committed)
            yield from self._unused.cut(low_water)
        begin = low_water
        if steps and self._unused.rebuildable:
            streams = len(self._engine.rows(self._task.partition)) + len(self._unused)
            begin = max(first, committed - steps * streams)
            yield from self._unused.begin(begin)
            begin = min(low_water, begin)
        self._task.replays_from = low_water
        self._at, self._gap, self._is_sought = begin, None, False
        self._step = _Step.REPLAY
        if begin >= committed:
            self._conclude()

    def _saved(self) -> Saved:
        partition = self._task.partition
        if self._beyond is None:
            self._beyond = int(self._engine.arena.covers[self._engine.rows(partition)].max(initial=0))
        return Saved(self._group_id, partition, self._changelog, self._end == 0, self._beyond, self._committed)

    def _looked(self, saved: Saved) -> Input:
        reader, partition = self._reader, self._task.partition
        start = self._client.starting_offset(partition) if self._is_first else None
        end, begin = reader.end(partition), reader.begin(partition)
        return Input(begin, end, start, saved.fits(begin) or self._fetched() == self._committed)

    def _take_over(self, records: Records) -> None:
        """The last word of each stream in these records: its snapshot, or that it is forgotten."""
        last = dict(zip(map(_text, records.keys), records.values, strict=True))
        kept = {stream: value for stream, value in last.items() if value is not None}
        snapshots, kinds = self._format.decode(list(kept.values()))
        if Kind.FOREIGN in kinds or Kind.CORRUPT in kinds:
            own = [stream for stream, kind in zip(kept, kinds, strict=True) if kind is Kind.OWN]
            unused = {stream: UNUSED[kind] for stream, kind in zip(kept, kinds, strict=True) if kind is not Kind.OWN}
        else:
            own, unused = list(kept), {}
        gone = [stream for stream, value in last.items() if value is None or stream in unused]
        self._engine.drop(self._task.partition, gone)
        self._engine.restore(self._task.partition, own, snapshots)
        self.snapshots += len(own)
        self._unused.read(last.keys(), unused)

    def _replay(self, timeout_seconds: float, now: float) -> None:
        committed = self._committed.offset
        if self._left is None and self._at < committed:
            self._read_input(timeout_seconds)
        if self._left is not None:
            self._replay_some(self._left, now)
        if self._left is None and self._at >= committed:
            self._step = _Step.CHECK
            self._check(timeout_seconds, now)

    def _read_input(self, timeout_seconds: float) -> None:
        if not self._is_sought:
            self._reader.seek(self._task.partition, self._at)
            self._is_sought = True
        records, position = self._reader.read(timeout_seconds)
        if self._gap is None and (position if records is None else records.offsets[0]) > self._at:
            self._gap = self._at
        self._at = position
        if records is not None:
            count = int(np.searchsorted(np.asarray(records.offsets), self._committed.offset))
            self._left = _part(records, slice(0, count)) if count else None

    def _replay_some(self, records: Records, now: float) -> None:
        """As many as a slice has time for: a record that ends its stream's silence feeds the missing steps, too."""
        some = _part(records, slice(0, self._limit.records))
        left = _part(records, slice(len(some), len(records)))
        self._left = left if len(left) else None
        rows, offsets, steps = self._engine.replay(some)
        self._limit.advanced(len(some), steps)
        # what lies before the low-water mark changes streams without a snapshot only: they are built anew from
        # wherever a restart begins, and hold the mark where it is
        self._task.ledger.changed(rows, np.maximum(offsets, self._task.replays_from), now)
        self.replayed += len(some)
        if len(self._unused):
            self._unused.saw(self._engine.streams(some))

    def _check(self, timeout_seconds: float, now: float) -> None:
        """Whether what was replayed is what is to be replayed, still."""
        late = now - self._began > LIMIT_SECONDS
        if self._gap is None and not late:
            self._conclude()
            return
        begin, found = self._asked(lambda: self._checked(late), timeout_seconds)
        if self._gap is not None and begin > self._gap:
            self._again()  # retention may have overtaken the reading
        elif found != self._committed:
            self._too_slow(now)
        else:
            self._conclude()

    def _checked(self, late: bool) -> tuple[int, Position | None]:
        return self._reader.begin(self._task.partition), self._fetched() if late else self._committed

    def _conclude(self) -> None:
        self._reader.rest()
        self._work, self._step = self._concluded(), _Step.CONCLUDE
        next(self._work, None)

    def _concluded(self) -> Iterator[None]:
        """Say what starts fresh; live, or first the snapshots of what was built anew."""
        self._task.position = self._task.committed = self._committed.offset
        self._task.read_to = max(self._committed.offset, self._lost.stop)
        # Where streams are built anew, none is left to be so later, from a position where it looks different. Where
        # events are gone that would have been replayed, nobody knows whose they were.
        yield from self._unused.end(all_are_void=bool(self._policy.warm_from_input_steps) or self._is_cut)
        if self._lost:
            self._policy.on_lost(len(self._lost))
            log("input_lost", logging.WARNING, partition=self._task.name, committed=self._lost.start,
                begins=self._lost.stop)  # fmt: skip
        self._unused.report(self._policy.on_rebuilt, self._policy.on_reset)
        if self._policy.warm_from_input_steps and (len(self._task.rebuilt) or self._task.voided):
            self._task.saving, self._step = True, _Step.SAVE
        else:
            self._go_live()

    def _go_live(self) -> None:
        self._task.saving, self._step = False, _Step.LIVE
        self._engine.go_live(self._task.partition)
        self._task.move(Phase.RUNNING)
        self._client.resume(self._task.partition, self._committed.offset)

    def _too_slow(self, now: float) -> None:
        log("restore_begun_again", logging.WARNING, partition=self._task.name, seconds=now - self._began)
        self._again()

    def _again(self) -> None:
        """From the start: somebody else had the partition in between, or reading has taken too long."""
        self._engine.release(self._task.partition)
        self._task.move(Phase.ASSIGNED)
        self._task.voided.clear()
        self._step, self._answer, self._beyond, self._left = _Step.FETCH, None, None, None
        self._unused = Unusable(self._task, self._engine)
        self.snapshots = self.replayed = 0


def _part(records: Records, cut: slice) -> Records:
    stamps = None if records.timestamps is None else records.timestamps[cut]
    return Records(records.partition, records.offsets[cut], stamps, records.keys[cut], records.values[cut])


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")
