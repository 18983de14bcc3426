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
    """step_ms None is the per-event grid; nearest rounds to the closest slot, for clocks that jitter."""

    step_ms: int | None
    offset_ms: int = 0
    nearest: bool = False
    max_gap_steps: int = 168

    @classmethod
    def of(cls, manifest: Manifest, *, nearest: bool, max_gap_steps: int) -> "TimeGrid":
        """The grid of a model."""
        return cls(manifest.step_ms, manifest.offset_ms, nearest, max_gap_steps)

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


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the grid makes of n events, ordered by stream and then as they came.

    order      (n,)  that order, as positions of the events given
    accepted   (n,)  whether the event is a new slot of its stream
    duplicate  (n,)  whether it is the stream's current slot again; neither: late
    previous   (n,)  the stream's accepted slot before the event
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
    n = len(rows)
    order = np.argsort(rows, kind="stable")
    row, slot, last = rows[order], slots[order], last_slots[order]
    first = np.ones(n, bool)
    np.not_equal(row[1:], row[:-1], out=first[1:])

    # The largest slot so far within each stream: ranks are small, so streams can be set apart by adding.
    values, rank = np.unique(slot, return_inverse=True)
    apart = np.cumsum(first) * len(values)
    reached = np.maximum.accumulate(rank + apart)
    before = np.full(n, NEVER)
    before[1:] = np.where(first[1:], NEVER, values[(reached[:-1] - apart[:-1]) if n > 1 else []])
    previous = np.maximum(before, last)
    return Judgement(order, slot > previous, slot == previous, previous)
