"""The engine: batches of records in, forecasts out, every stream's state kept in between.

Deterministic and without I/O: any split of a log into batches gives the same forecasts, so the daemon,
`streamer replay` and the tests all drive this one class.

    records ─► decode ─► rows of their streams ─► time grid ─► steps ─► blocks ─► model ─► forecasts
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from streamer.core.arena import Arena
from streamer.core.blocks import MAX_STEPS, Accepted, Run, Steps
from streamer.core.contract import Block, Model
from streamer.core.decoding import Decoder, Events, Rejection
from streamer.core.events import Partition, Records
from streamer.core.fields import NOT_GIVEN
from streamer.core.forecasts import Forecasts, Outcome, Reset
from streamer.core.isolation import broken_rows, step_alone
from streamer.core.timegrid import Ints, Judgement, Mask, TimeGrid, judge

MAX_LAID_OUT_STEPS = 1 << 20  # steps laid out at a time: long gaps cost time, not memory
NO_ROW = -1


@dataclass(frozen=True, slots=True)
class Broken:
    """An arena row whose state broke: at which of the batch's steps, its time, and the first step in a new state."""

    row: int
    time: int
    step: int
    begins: int


class Engine:
    """Advances every stream of every partition with one model.

    max_streams  streams over all partitions; an event that would begin one more is rejected
    """

    def __init__(self, model: Model, grid: TimeGrid, decoder: Decoder, max_streams: int) -> None:
        self.model = model
        self.grid = grid
        self.arena = Arena(model.signature.states, len(model.manifest.static), max_streams)
        self._decoder = decoder
        self._rows: dict[Partition, dict[str, int]] = {}

    def release(self, partition: Partition) -> None:
        """Forget every stream of a partition."""
        self.arena.release(list(self._rows.pop(partition, {}).values()))

    def advance(self, batch: Sequence[Records]) -> Outcome:
        """Advance the streams with every record of a batch.

        batch  at most one `Records` per partition; a stream is its partition and its id

        1. decode, and find each event's stream   2. accept what moves its stream forward
        3. advance the states   4. remember where each stream is   5. hand out the forecasts in record order
        """
        decoded = [self._place(records.partition, self._decoder.decode(records)) for records in batch]
        if not decoded:
            return Outcome([], [])
        parts = [events for events, _ in decoded]
        row = np.concatenate([rows for _, rows in decoded])
        slot = self.grid.slots(np.concatenate([events.ts for events in parts]))

        judged = judge(row, slot, self.arena.last_slot[row])
        order = judged.order[judged.accepted]
        accepted, first = self._accept(row[order], slot[order], judged.previous[judged.accepted], parts, order)

        quantiles, broken = self._advance(accepted)
        age = self._ages(accepted, first, broken)

        last = np.append(first[1:], True)[: len(accepted)]
        ended = accepted.row[last]
        self.arena.last_slot[ended] = accepted.slot[last]
        self.arena.age[ended] = age[last]
        self.arena.codes[ended] = accepted.codes[last]

        warm = age >= self.model.manifest.warmup_steps
        ends = np.cumsum([len(events.stream) for events in parts])
        arrivals = _Arrivals(slot, judged, self.grid)
        forecasts = [
            arrivals.forecasts(records, events, end - len(events.stream), warm, quantiles)
            for records, events, end in zip(batch, parts, ends.tolist(), strict=True)
        ]
        return Outcome(forecasts, [_reset(b, row, ends, batch, parts) for b in broken])

    def _place(self, partition: Partition, events: Events) -> tuple[Events, Ints]:
        """The events with the arena row of each one's stream; new streams get theirs in order of arrival."""
        known = self._rows.setdefault(partition, {})
        found = list(map(known.get, events.stream))
        if None in found:
            for i, stream in enumerate(events.stream):
                if found[i] is None:
                    row = known.get(stream)
                    if row is None and (row := self.arena.allocate()) is not None:
                        known[stream] = row
                    found[i] = row
        rows = np.array([NO_ROW if r is None else r for r in found] if None in found else found, np.int64)
        admitted = rows != NO_ROW
        events = events.keep(
            admitted,
            "too_many_streams",
            lambda i: f"stream {events.stream[i]!r} would exceed state.max_streams {self.arena.max_streams}",
        )
        return events, rows[admitted]

    def _accept(
        self, row: Ints, slot: Ints, previous: Ints, parts: Sequence[Events], order: Ints
    ) -> tuple[Accepted, Mask]:
        """The accepted events stream by stream, and which are the first of their stream in the batch."""
        first = np.ones(len(row), bool)
        np.not_equal(row[1:], row[:-1], out=first[1:])
        steps, fresh = self.grid.steps(slot, previous)
        values = np.concatenate([events.values for events in parts])[order]
        given = np.concatenate([events.codes for events in parts])[order]
        codes = _codes_in_force(first, given, self.arena.codes[row])
        starts = first | fresh
        starts[1:] |= (codes[1:] != codes[:-1]).any(axis=1)
        return Accepted(row, slot, steps, starts, fresh, values, codes), first

    def _advance(self, accepted: Accepted) -> tuple[npt.NDArray[np.float32], list[Broken]]:
        """Run every step through the model; quantiles (n, H, Q) in the order of the accepted events."""
        manifest, signature = self.model.manifest, self.model.signature
        quantiles = np.empty((len(accepted), manifest.horizon, len(manifest.levels)), np.float32)
        broken: list[Broken] = []
        steps_before = 0
        for begin, part in _laid_out_parts(accepted):
            steps = Steps(part, self.grid, signature.value_dtype)
            for run, block in steps.blocks(signature.max_steps or MAX_STEPS):
                result, resets = self._advance_block(run, block)
                quantiles[begin + run.events] = result
                broken += [replace(b, step=steps_before + b.step, begins=steps_before + b.begins) for b in resets]
            steps_before += len(steps.event)
        return quantiles, broken

    def _advance_block(self, run: Run, block: Block) -> tuple[npt.NDArray[np.float32], list[Broken]]:
        before = self.arena.gather(run.row, run.fresh)
        quantiles, after = self.model.advance(block, before)
        resets: list[Broken] = []
        mask = broken_rows(block, quantiles, after)
        for b in [] if mask is None else np.flatnonzero(mask).tolist():
            alone = step_alone(self.model, block, b, [state[b : b + 1] for state in before])
            quantiles[block.emit // block.time.shape[1] == b] = alone.quantiles
            for state, own in zip(after, alone.state, strict=True):
                state[b] = own[0]
            row, first = int(run.row[b]), int(run.first[b])
            resets += [Broken(row, int(block.time[b, t]), first + t, first + begins) for t, begins in alone.resets]
        self.arena.scatter(run.row, after)
        return quantiles, resets

    def _ages(self, accepted: Accepted, first: Mask, broken: Sequence[Broken]) -> Ints:
        """Steps since each event's stream was fresh, the event's own included."""
        done = np.cumsum(accepted.steps)
        anchor = first | accepted.fresh
        begun = done - accepted.steps - np.where(accepted.fresh, 0, self.arena.age[accepted.row])
        begun = begun[np.maximum.accumulate(np.where(anchor, np.arange(len(accepted)), 0))]
        for b in broken:
            after = (accepted.row == b.row) & (done > b.step)
            begun[after] = np.maximum(begun[after], b.begins)
        return done - begun


class _Arrivals:
    """The judgement of a batch's events, back in the order in which they came."""

    def __init__(self, slot: Ints, judged: Judgement, grid: TimeGrid) -> None:
        n = len(slot)
        self._slot, self._grid = slot, grid
        self._accepted, self._duplicate = np.zeros(n, bool), np.zeros(n, bool)
        self._previous, self._place = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self._accepted[judged.order] = judged.accepted
        self._duplicate[judged.order] = judged.duplicate
        self._previous[judged.order] = judged.previous
        self._place[judged.order] = np.cumsum(judged.accepted) - 1

    def forecasts(
        self, records: Records, events: Events, begin: int, warm: Mask, quantiles: npt.NDArray[np.float32]
    ) -> Forecasts:
        """What became of one `Records`, whose events are the batch's from `begin` on."""
        here = slice(begin, begin + len(events.stream))
        accepted = self._accepted[here]
        at = np.flatnonzero(accepted)
        place = self._place[here][at]
        refused = [self._refusal(int(events.index[i]), begin + i) for i in np.flatnonzero(~accepted).tolist()]
        return Forecasts(
            records,
            events.index[at],
            events.stream if not refused else [events.stream[i] for i in at.tolist()],
            self._grid.times(self._slot[here][at]),
            warm[place],
            quantiles[place],
            sorted(events.rejected + refused, key=lambda rejection: rejection.index),
        )

    def _refusal(self, index: int, at: int) -> Rejection:
        slot, current = (int(t) for t in self._grid.times(np.array([self._slot[at], self._previous[at]])))
        if self._duplicate[at]:
            return Rejection(index, "duplicate", f"the stream's slot {slot} already has its event")
        return Rejection(index, "late", f"the event's slot {slot} lies before its stream's, {current}")


def _reset(broken: Broken, row: Ints, ends: Ints, batch: Sequence[Records], parts: Sequence[Events]) -> Reset:
    at = int(np.argmax(row == broken.row))
    part = int(np.searchsorted(ends, at, side="right"))
    stream = parts[part].stream[at - int(ends[part])]
    return Reset(batch[part].partition, stream, broken.time)


def _codes_in_force(first: Mask, given: Ints, known: Ints) -> Ints:
    """Static codes (n, C) at each event: what it names, else what its stream named last."""
    at = np.arange(len(first))[:, None]
    begin = np.maximum.accumulate(np.where(first[:, None], at, 0), axis=0)
    named = np.maximum.accumulate(np.where(given == NOT_GIVEN, -1, at), axis=0)
    return np.where(named >= begin, np.take_along_axis(given, np.maximum(named, 0), axis=0), known)


def _laid_out_parts(accepted: Accepted) -> Iterator[tuple[int, Accepted]]:
    """The events in parts whose steps fit in memory together, each with the position of its first event."""
    part = np.cumsum(accepted.steps) // MAX_LAID_OUT_STEPS
    edges = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
    for begin, end in pairwise([*edges, len(accepted)]):
        starts = accepted.starts[begin:end].copy()
        starts[0] = True
        yield (
            begin,
            Accepted(
                accepted.row[begin:end],
                accepted.slot[begin:end],
                accepted.steps[begin:end],
                starts,
                accepted.fresh[begin:end],
                accepted.values[begin:end],
                accepted.codes[begin:end],
            ),
        )
