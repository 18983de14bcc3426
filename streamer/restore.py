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
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from streamer.checkpoint import position_of
from streamer.core.engine import Engine
from streamer.core.events import Records
from streamer.core.snapshot import Kind, SnapshotFormat
from streamer.core.timegrid import NEVER, Ints
from streamer.delivery import KafkaClient, LogReader, NotAMemberError, Position
from streamer.found import Input, Saved
from streamer.logs import log
from streamer.questions import Answer, NotYetError, Question, ask_at_once
from streamer.tasks import Phase, Task, changelog_of

STANDSTILL_SECONDS = 30.0  # what a dead producer leaves open ends within 20 s: its time limit, and the look at it
LIMIT_SECONDS = 3600.0  # of a restore: changelogs keep their tombstones for 24 h (delete.retention.ms)
UNUSED = {Kind.FOREIGN: "other_model", Kind.CORRUPT: "corrupt"}
TRUNCATED = "input_truncated"


class _Step(Enum):
    FETCH = 1
    END = 2
    READ = 3
    LOOK = 4
    REPLAY = 5
    CHECK = 6
    SAVE = 7
    LIVE = 8


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
        self._committed = Position(0, "")
        self._is_first = False  # no position was ever committed, as far as anybody knows
        self._end = 0
        self._lost = range(0)  # offsets of the input from the committed one on that are not there any more
        self._began = 0.0
        self._unused: dict[str, str] = {}  # streams whose snapshot is of no use, and why
        self._seen: set[str] = set()  # those of them that the replay came across
        self._is_cut = False  # whether retention has deleted input that was to be replayed
        self._at = 0  # the next offset of what is being read
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
        return self._step.value, self._at

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
        if self._is_first and (saved.beyond or self._unused):
            raise saved.lost_position()
        input_: Input = self._asked(lambda: self._looked(saved), timeout_seconds)
        if not input_.unchanged or (input_.start is not None and not self._begin_first(input_.start)):
            self._again()
            return
        low_water = self._checked_low_water(input_)
        begin = self._rebuild_from(low_water, input_.begin)
        self._task.replays_from = low_water
        if begin >= self._committed.offset:
            self._end_replay()
            return
        self._at, self._gap, self._seen = begin, None, set()
        self._reader.seek(self._task.partition, begin)
        self._step = _Step.REPLAY

    def _saved(self) -> Saved:
        partition, rows = self._task.partition, self._engine.rows(self._task.partition)
        beyond = int(self._engine.arena.covers[rows].max(initial=0))
        return Saved(self._group_id, partition, self._changelog, self._end == 0, beyond, self._committed)

    def _looked(self, saved: Saved) -> Input:
        reader, partition = self._reader, self._task.partition
        start = self._client.starting_offset(partition) if self._is_first else None
        end, begin = reader.end(partition), reader.begin(partition)
        return Input(begin, end, start, saved.fits(begin) or self._fetched() == self._committed)

    def _rebuild_from(self, low_water: int, first: int) -> int:
        """Where the replay begins: at the low-water mark, or further back where streams are to be built anew.

        A stream of which retention has deleted input that its snapshot lacks is not: it starts fresh.
        """
        steps, partition = self._policy.warm_from_input_steps, self._task.partition
        lost = [stream for stream, reason in self._unused.items() if reason != TRUNCATED]
        if not steps or not lost:
            return low_water
        streams = len(self._engine.rows(partition)) + len(self._unused)
        begin = max(first, self._committed.offset - steps * streams)
        # never of more: where the low-water mark lies depends on who saved what when
        self._engine.begin(partition, lost, begin)
        return min(low_water, begin)

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
        for stream in self._unused.keys() & last.keys():
            del self._unused[stream]
        self._unused |= unused

    def _checked_low_water(self, input_: Input) -> int:
        """From where on input is to be replayed that is there still. Raises StateError."""
        low_water, committed = self._saved().low_water(input_.end), self._committed.offset
        self._lost = range(committed, input_.begin)  # to be passed over: reading goes on with what is there
        begin = min(input_.begin, committed)
        self._is_cut = begin > low_water
        if self._is_cut:
            self._without_input_before(begin)
        return max(low_water, begin)

    def _without_input_before(self, begin: int) -> None:
        """Streams whose snapshots rely on input that retention has deleted start fresh."""
        partition, arena = self._task.partition, self._engine.arena
        rows = self._engine.rows(partition)
        hurt = [arena.stream[row] for row in rows[arena.covers[rows] < begin].tolist()]
        self._engine.drop(partition, hurt)
        self._unused |= dict.fromkeys(hurt, TRUNCATED)
        self._task.voided.update(hurt)

    def _replay(self, timeout_seconds: float, now: float) -> None:
        records, position = self._reader.read(timeout_seconds)
        if self._gap is None and (position if records is None else records.offsets[0]) > self._at:
            self._gap = self._at
        self._at = position
        if records is not None and (below := _below(records, self._committed.offset)) is not None:
            rows, offsets = self._engine.replay(below)
            # what lies before the low-water mark changes streams without a snapshot only: they are built anew from
            # wherever a restart begins, and hold the mark where it is
            self._task.ledger.changed(rows, np.maximum(offsets, self._task.replays_from), now)
            self.replayed += len(below)
            if self._unused:
                self._seen |= self._unused.keys() & self._engine.streams(below)
        if position >= self._committed.offset:
            self._step = _Step.CHECK
            self._check(timeout_seconds, now)

    def _check(self, timeout_seconds: float, now: float) -> None:
        """Whether what was replayed is what is to be replayed, still."""
        late = now - self._began > LIMIT_SECONDS
        if self._gap is None and not late:
            self._end_replay()
            return
        begin, found = self._asked(lambda: self._checked(late), timeout_seconds)
        if self._gap is not None and begin > self._gap:
            self._again()  # retention may have overtaken the reading
        elif found != self._committed:
            self._too_slow(now)
        else:
            self._end_replay()

    def _checked(self, late: bool) -> tuple[int, Position | None]:
        return self._reader.begin(self._task.partition), self._fetched() if late else self._committed

    def _end_replay(self) -> None:
        """Say what starts fresh; live, or first the snapshots of what was built anew."""
        self._reader.rest()
        self._task.position = self._task.committed = self._committed.offset
        self._task.read_to = max(self._committed.offset, self._lost.stop)
        self._task.rebuilt = self._end_rebuild()
        # The snapshots of what is left lack the events seen, and must not serve the model they are of again. Where
        # streams are built anew, none is left to be so later, from a position where it looks different. Where events
        # are gone that would have been replayed, nobody knows whose they were.
        no_one_knows = self._policy.warm_from_input_steps or self._is_cut
        self._task.voided.update(self._unused if no_one_knows else self._seen & self._unused.keys())
        if self._lost:
            self._policy.on_lost(len(self._lost))
            log("input_lost", logging.WARNING, partition=self._task.name, committed=self._lost.start,
                begins=self._lost.stop)  # fmt: skip
        for reason, count in Counter(self._unused.values()).items():
            self._policy.on_reset(reason, count)
            log("snapshots_unused", logging.WARNING, partition=self._task.name, reason=reason, streams=count)
        if self._policy.warm_from_input_steps and (len(self._task.rebuilt) or self._task.voided):
            self._task.saving, self._step = True, _Step.SAVE
        else:
            self._go_live()

    def _end_rebuild(self) -> Ints:
        """The rows of the streams built anew; those without an event in the replay are begun by their next one."""
        partition, last_slot = self._task.partition, self._engine.arena.last_slot
        rows, streams = self._engine.rows(partition), self._engine.arena.stream
        begun = rows[last_slot[rows] != NEVER]
        self._engine.drop(partition, [streams[row] for row in rows[last_slot[rows] == NEVER].tolist()])
        candidates = begun.tolist() if self._unused else []
        rebuilt = np.array([row for row in candidates if self._unused.pop(streams[row], None)], np.int64)
        if len(rebuilt):
            self._policy.on_rebuilt(len(rebuilt))
            log("streams_rebuilt", partition=self._task.name, streams=len(rebuilt))
        return rebuilt

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
        self._step, self._answer, self._unused, self._seen = _Step.FETCH, None, {}, set()
        self.snapshots = self.replayed = 0


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
