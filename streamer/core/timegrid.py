"""The time grid: which slot an event falls in, and what that makes of it for its stream.

On a regular grid a slot is one step of `step_ms`; on a per-event grid every event is a step and its slot
is its time. Within a stream slots only grow: the same slot again is a duplicate, an earlier one is late.

    slot        3    4    4    7    5
    event       new  next dup. gap  late      the gap feeds slots 5 and 6 as not observed
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.core.contract import Manifest

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NEVER = np.iinfo(np.int64).min  # the last slot of a stream that has none


@dataclass(frozen=True)
class TimeGrid:
    """step_ms None is the per-event grid; nearest rounds to the closest slot, for clocks that jitter.

    idle_slots  silence after which a stream is forgotten, in slots of its partition's progress; None: never
    every       a stream's forecasts are published once in so many slots
    """

    step_ms: int | None
    offset_ms: int = 0
    nearest: bool = False
    max_gap_steps: int = 168
    idle_slots: int | None = None
    every: int = 1

    @classmethod
    def of(
        cls, manifest: Manifest, *, nearest: bool, max_gap_steps: int, idle_ms: int = 0, every: int = 1
    ) -> "TimeGrid":
        """The grid of a model; idle_ms 0: no stream is ever forgotten."""
        idle_slots = idle_ms // (manifest.step_ms or 1) if idle_ms else None
        return cls(manifest.step_ms, manifest.offset_ms, nearest, max_gap_steps, idle_slots, every)

    def slots(self, ts: Ints) -> Ints:
        """The slot of each time, UTC epoch milliseconds."""
        if self.step_ms is None:
            return ts
        shift = self.step_ms // 2 if self.nearest else 0
        return (ts - self.offset_ms + shift) // self.step_ms

    def times(self, slots: Ints) -> Ints:
        """The start of each slot, UTC epoch milliseconds: the forecast origin of its event."""
        return slots if self.step_ms is None else slots * self.step_ms + self.offset_ms

    def steps(self, slots: Ints, previous: Ints) -> tuple[Ints, Mask]:
        """Steps that each accepted event feeds, the missing ones before it included, and whether it starts fresh.

        previous  the slot of the stream's accepted event before, NEVER for none
        """
        new = previous == NEVER
        if self.step_ms is None:
            return np.ones_like(slots), new
        distance = slots - np.where(new, slots - 1, previous)
        fresh = new | (distance - 1 > self.max_gap_steps)
        return np.where(fresh, 1, distance), fresh

    def publishes(self, slots: Ints, previous: Ints) -> Mask:
        """Whether each accepted event's forecast is published: the first of its stream in each period of slots.

        previous  the slot of the stream's accepted event before, NEVER for none

        Periods of `every` slots are counted from the epoch, so all streams publish at the same times, and what is
        published depends on nothing but a stream's own slots: not on batches, restarts, or states that broke. Where
        a period's first slot has no event, its next event stands in.
        """
        if self.every == 1:
            return np.ones(len(slots), bool)
        new = previous == NEVER
        return np.asarray(new | (slots // self.every != np.where(new, 0, previous) // self.every))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the grid makes of n events, ordered by stream and then as they came.

    order      (n,)  that order, as positions of the events given
    accepted   (n,)  whether the event moves its stream forward, or begins it again after a long silence
    duplicate  (n,)  whether it is the stream's current slot again; neither: late
    previous   (n,)  the stream's accepted slot before the event; NEVER where the event begins a new stream
    """

    order: Ints
    accepted: Mask
    duplicate: Mask
    previous: Ints


def judge(rows: Ints, slots: Ints, last_slots: Ints) -> Judgement:
    """Accept what moves a stream forward.

    rows        (n,)  the stream of each event, any number per stream
    slots       (n,)  the slot of each event
    last_slots  (n,)  the last accepted slot of each event's stream before all of these, NEVER for none
    """
    order = np.argsort(rows, kind="stable")
    row, slot = rows[order], slots[order]
    previous = np.maximum(_largest_before(row, slot), last_slots[order])
    return Judgement(order, slot > previous, slot == previous, previous)


def begin_again(judged: Judgement, rows: Ints, slots: Ints, progress: Ints, idle_slots: int) -> Judgement:
    """Let events that come after a long silence of their stream begin it anew.

    progress    (n,)  the largest slot that the event's partition had accepted before it, NEVER for none
    idle_slots        silence, in slots of the partition's progress, after which a stream is forgotten

    A stream that begins again may do so at an earlier slot than its last, so what follows in it is judged one by one;
    that is rare, and every other stream keeps its judgement.
    """
    order, previous = judged.order, judged.previous
    before = progress[order]
    known = (previous != NEVER) & (before != NEVER)
    silent = known & (np.where(known, before - previous, 0) > idle_slots)
    if not silent.any():
        return judged
    accepted, duplicate, previous = judged.accepted.copy(), judged.duplicate.copy(), previous.copy()
    row, slot = rows[order], slots[order]
    for again in np.unique(row[silent]).tolist():
        at = np.flatnonzero(row == again)
        last = int(previous[at[0]])
        for i in at.tolist():
            if last != NEVER and before[i] != NEVER and before[i] - last > idle_slots:
                last = NEVER
            previous[i] = last
            accepted[i], duplicate[i] = slot[i] > last, slot[i] == last
            if accepted[i]:
                last = int(slot[i])
    return Judgement(order, accepted, duplicate, previous)


def progress_before(partitions: Ints, slots: Ints, progress: Ints) -> Ints:
    """The largest slot that each event's partition had seen before it.

    partitions  (n,)  the partition of each event, all events of one together, in record order
    progress    (n,)  the partition's progress before all of these, NEVER for none

    Late events and duplicates may be counted in: their slots are not beyond their stream's own last one.
    """
    return np.maximum(_largest_before(partitions, slots), progress)


def _largest_before(groups: Ints, slots: Ints) -> Ints:
    """(n,) the largest slot before each event within its group, NEVER for none; groups stand together."""
    n = len(groups)
    first = np.ones(n, bool)
    np.not_equal(groups[1:], groups[:-1], out=first[1:])
    values, rank = np.unique(slots, return_inverse=True)
    apart = np.cumsum(first) * len(values)  # ranks are small, so groups can be set apart by adding
    reached = np.maximum.accumulate(rank + apart)
    before = np.full(n, NEVER)
    before[1:] = np.where(first[1:], NEVER, values[(reached - apart)[:-1]])
    return before
