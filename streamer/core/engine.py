"""The engine: batches of records in, forecasts out, every stream's state kept in between.

Deterministic and without I/O: any split of a log into batches gives the same forecasts, so the daemon,
`streamer replay` and the tests all drive this one class.

    records ─► decode ─► rows of their streams ─► time grid ─► steps ─► blocks ─► model ─► forecasts
"""

import math
from collections import deque
from collections.abc import Sequence
from itertools import repeat

import numpy as np

from streamer.core.acceptance import Accepted, accept
from streamer.core.arena import Arena
from streamer.core.arrivals import Arrivals
from streamer.core.contract import Model
from streamer.core.decoding import Decoder, Events
from streamer.core.events import Partition, Records
from streamer.core.forecasts import Outcome, Reset
from streamer.core.held import HeldHere, Hold
from streamer.core.snapshot import Snapshots
from streamer.core.stepping import Broken, ages, step
from streamer.core.timegrid import NEVER, Ints, Judgement, TimeGrid, begin_again, judge, progress_before

NO_ROW = -1
MAX_EVICTED = 5_000  # at a time, of all partitions: their tombstones are one transaction's
SWEEPS = 8  # times that silent streams are looked for while the idle time passes once


class Engine:
    """Advances every stream of every partition with one model.

    max_streams  streams over all partitions; an event that would begin one more is rejected
    hold         where their states are held
    """

    def __init__(self, model: Model, grid: TimeGrid, decoder: Decoder, max_streams: int, hold: Hold = HeldHere) -> None:
        self.model = model
        self.grid = grid
        self.arena = Arena(hold(model.signature.states, max_streams), len(model.manifest.static), max_streams)
        self._decoder = decoder
        self._rows: dict[Partition, dict[str, int]] = {}  # every stream's row, by partition and id
        self._progress: dict[Partition, int] = {}
        self._swept: dict[Partition, int] = {}  # the progress when silent streams were last looked for
        self._silent: dict[Partition, deque[int]] = {}  # the rows of those found then and not evicted yet

    def release(self, partition: Partition) -> None:
        """Forget every stream of a partition."""
        self._progress.pop(partition, None)
        self._swept.pop(partition, None)
        self._silent.pop(partition, None)
        self.arena.release(self.rows(partition))
        self._rows.pop(partition, None)

    def advance(self, batch: Sequence[Records]) -> Outcome:
        """Advance the streams with every record of a batch.

        batch  at most one `Records` per partition; a stream is its partition and its id

        1. decode, and find each event's stream   2. accept what moves its stream forward
        3. advance the states   4. remember where each stream is   5. hand out the forecasts in record order
        """
        if not batch:
            return Outcome([], [], 0)
        placed = [self._place(records.partition, self._decoder.decode(records)) for records in batch]
        parts = [events for events, _ in placed]
        row = np.concatenate([rows for _, rows in placed])
        slot = self.grid.slots(np.concatenate([events.ts for events in parts]))

        judged = self._judge(batch, parts, row, slot)
        accepted = accept(judged, row, slot, parts, self.grid, self.arena)
        arrivals = Arrivals(row, slot, judged, self.grid, accepted.wanted)
        quantiles, broken = step(self.model, self.arena, self.grid, accepted, arrivals.places)
        age = self._remember(accepted, broken)
        warm = age >= self.model.manifest.warmup_steps
        ends = np.cumsum([len(events.stream) for events in parts])
        forecasts = [
            arrivals.forecasts(records, events, end - len(events.stream), warm, quantiles)
            for records, events, end in zip(batch, parts, ends.tolist(), strict=True)
        ]
        return Outcome(forecasts, [_reset(b, row, ends, batch, parts) for b in broken], int(accepted.steps.sum()))

    def replay(self, records: Records) -> tuple[Ints, Ints, int]:
        """Bring restored streams up to date with events that their snapshots do not cover; forecasts nothing.

        Returns the rows that changed and the offsets that changed them, (n,) each, by offset, and how many steps they
        were fed. Streams are neither begun nor forgotten here: that was decided when the events were first read, or by
        `begin`.
        """
        partition = records.partition
        events = self._decoder.decode(records)
        known = self._rows.get(partition, {})
        rows = np.fromiter(map(known.get, events.stream, repeat(NO_ROW)), np.int64, len(events.stream))
        offsets = np.asarray(records.offsets, np.int64)[events.index]
        use = (rows != NO_ROW) & (offsets >= self.arena.covers[rows])
        events, row, offsets = events.only(use), rows[use], offsets[use]
        slot = self.grid.slots(events.ts)
        judged = judge(row, slot, self.arena.last_slot[row])
        accepted = accept(judged, row, slot, [events], self.grid, self.arena)
        _, broken = step(self.model, self.arena, self.grid, accepted)
        self._remember(accepted, broken)
        order = np.sort(judged.order[judged.accepted])
        return row[order], offsets[order], int(accepted.steps.sum())

    def restore(self, partition: Partition, streams: Sequence[str], snapshots: Snapshots) -> None:
        """Take over streams, each named once, as their snapshots have them, in place of what was known of them."""
        known = self._rows.setdefault(partition, {})
        found = list(map(known.get, streams))
        new = [stream for stream, row in zip(streams, found, strict=True) if row is None] if None in found else []
        if new:
            known.update(zip(new, self.arena.admit(new).tolist(), strict=True))
            found = [known[stream] for stream in streams]
        self.arena.put(np.array(found, np.int64), snapshots)

    def begin(self, partition: Partition, streams: Sequence[str], offset: int) -> None:
        """Take up streams, however many, that a replay is to build from nothing, of what is not before an offset."""
        self.drop(partition, streams)
        rows = self.arena.admit(streams)
        self.arena.covers[rows] = offset
        self._rows.setdefault(partition, {}).update(zip(streams, rows.tolist(), strict=True))

    def drop(self, partition: Partition, streams: Sequence[str]) -> None:
        """Forget these streams of a partition, as far as they are known."""
        known = self._rows.get(partition, {})
        self.arena.release([known.pop(stream) for stream in streams if stream in known])

    def rows(self, partition: Partition) -> Ints:
        """The arena rows of a partition's streams."""
        known = self._rows.get(partition, {})
        return np.fromiter(known.values(), np.int64, len(known))

    def also_elsewhere(self, partition: Partition, streams: Sequence[str]) -> set[str]:
        """Those of a partition's ids that another partition of its topic holds, too: as a stream of its own."""
        others = [rows for p, rows in self._rows.items() if p.topic == partition.topic and p != partition]
        return {stream for stream in streams if any(stream in rows for rows in others)}

    def streams(self, records: Records) -> set[str]:
        """The ids that these records name."""
        return set(self._decoder.decode(records).stream)

    def go_live(self, partition: Partition) -> None:
        """A partition is restored: its progress is the largest of its streams' last slots."""
        self._progress[partition] = int(self.arena.last_slot[self.rows(partition)].max(initial=NEVER))

    def evict(self, partitions: Sequence[Partition]) -> dict[Partition, list[str]]:
        """Free the rows of streams that were silent for too long, MAX_EVICTED in all; returns their ids, by partition.

        Each partition has an equal share, and what it leaves of its share goes to those that have more to forget.
        Housekeeping only: an event of such a stream begins it anew whether or not its row was freed.
        """
        waiting = sorted(((p, self._found_silent(p)) for p in partitions), key=lambda found: len(found[1]))
        evicted, left = {}, MAX_EVICTED
        for i, (partition, silent) in enumerate(waiting):
            share = min(len(silent), math.ceil(left / (len(waiting) - i)))
            evicted[partition] = self._evict(partition, [silent.popleft() for _ in range(share)])
            left -= share
        return evicted

    def _found_silent(self, partition: Partition) -> deque[int]:
        """The rows that wait to be freed; looking at every stream costs time, and a row kept longer only memory."""
        progress, idle = self._progress.get(partition, NEVER), self.grid.idle_slots
        if idle is None or progress == NEVER or not self._rows.get(partition):
            return deque()
        silent = self._silent.setdefault(partition, deque())
        if progress - self._swept.get(partition, progress - 1 - idle) > idle // SWEEPS:
            self._swept[partition] = progress
            rows = self.rows(partition)
            silent.clear()
            silent.extend(rows[progress - self.arena.last_slot[rows] > idle].tolist())
        return silent

    def _evict(self, partition: Partition, found: Sequence[int]) -> list[str]:
        """Free those of the rows that are silent still: some may have come again since they were found."""
        rows, progress = np.array(found, np.int64), self._progress.get(partition, NEVER)
        rows = rows[progress - self.arena.last_slot[rows] > (self.grid.idle_slots or 0)]
        streams = [self.arena.stream[row] for row in rows.tolist()]
        self.drop(partition, streams)
        return streams

    def _remember(self, accepted: Accepted, broken: Sequence[Broken]) -> Ints:
        age = ages(accepted, self.arena, broken)
        last = accepted.last
        self.arena.remember(accepted.row[last], accepted.slot[last], age[last], accepted.codes[last])
        return age

    def _judge(self, batch: Sequence[Records], parts: Sequence[Events], row: Ints, slot: Ints) -> Judgement:
        judged = judge(row, slot, self.arena.last_slot[row])
        if self.grid.idle_slots is None:
            return judged
        counts = [len(events.stream) for events in parts]
        reached = np.array([self._progress.get(records.partition, NEVER) for records in batch])
        part = np.repeat(np.arange(len(batch)), counts)
        progress = progress_before(part, slot, reached[part])
        for i, records in enumerate(batch):
            here = slot[part == i]
            self._progress[records.partition] = max(int(reached[i]), int(here.max(initial=NEVER)))
        return begin_again(judged, row, slot, progress, self.grid.idle_slots)

    def _place(self, partition: Partition, events: Events) -> tuple[Events, Ints]:
        """The events with the arena row of each one's stream; new streams get theirs in order of arrival."""
        known = self._rows.setdefault(partition, {})
        rows = np.fromiter(map(known.get, events.stream, repeat(NO_ROW)), np.int64, len(events.stream))
        if new := np.flatnonzero(rows == NO_ROW).tolist():
            rows[new] = [self._admitted(events.stream[i], known) for i in new]
        admitted = rows != NO_ROW
        events = events.keep(
            admitted,
            "too_many_streams",
            lambda i: f"stream {events.stream[i]!r} would exceed state.max_streams {self.arena.max_streams}",
        )
        return events, rows[admitted]

    def _admitted(self, stream: str, known: dict[str, int]) -> int:
        """The row of a stream that the batch begins, or NO_ROW where there is room for no more."""
        row = known.get(stream)
        if row is None and (row := self.arena.allocate(stream)) is not None:
            known[stream] = row
        return NO_ROW if row is None else row


def _reset(broken: Broken, row: Ints, ends: Ints, batch: Sequence[Records], parts: Sequence[Events]) -> Reset:
    at = int(np.argmax(row == broken.row))
    part = int(np.searchsorted(ends, at, side="right"))
    stream = parts[part].stream[at - int(ends[part])]
    return Reset(batch[part].partition, stream, broken.time)
