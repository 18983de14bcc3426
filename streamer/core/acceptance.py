"""What accepted events feed to their streams: how many steps, from a fresh state or not, under which static codes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from streamer.core.arena import Arena
from streamer.core.decoding import Events
from streamer.core.fields import NOT_GIVEN
from streamer.core.timegrid import NEVER, Ints, Judgement, Mask, TimeGrid


@dataclass(frozen=True, slots=True)
class Accepted:
    """n accepted events, ordered by stream and time, and what they feed to their streams.

    row     (n,)      the stream's row in the arena
    first   (n,)      whether the event is its stream's first in the batch
    slot    (n,)      time slot
    steps   (n,)      steps fed: the event's own and the missing ones before it
    starts  (n,)      whether a run must begin at the event
    fresh   (n,)      whether the stream's state starts fresh at the event
    born    (n,)      whether the event begins a new stream, or one anew that was silent for too long
    wanted  (n,)      whether the event's forecast is published
    values  (n, 1+P)  target and covariates, NaN where missing
    codes   (n, C)    static codes in force at the event
    """

    row: Ints
    first: Mask
    slot: Ints
    steps: Ints
    starts: Mask
    fresh: Mask
    born: Mask
    wanted: Mask
    values: npt.NDArray[np.float64]
    codes: Ints

    def __len__(self) -> int:
        return len(self.row)

    @property
    def last(self) -> Mask:
        """(n,) whether the event is its stream's last in the batch."""
        return np.append(self.first[1:], True)[: len(self)]

    def parts(self, max_steps: int) -> Iterator["Accepted"]:
        """The events in parts of about so many steps, so that long gaps cost time, not memory."""
        part = np.cumsum(self.steps) // max_steps
        edges = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
        for begin, end in pairwise([*edges, len(self)]):
            columns = {f.name: getattr(self, f.name)[begin:end] for f in fields(self)}
            starts = columns.pop("starts").copy()
            starts[0] = True
            yield Accepted(**columns, starts=starts)


def accept(judged: Judgement, row: Ints, slot: Ints, parts: Sequence[Events], grid: TimeGrid, arena: Arena) -> Accepted:
    """The accepted events of a batch, stream by stream.

    row, slot  (n,)  of every event, in the order of arrival
    parts            the events themselves, in that order
    """
    order, previous = judged.order[judged.accepted], judged.previous[judged.accepted]
    row, slot = row[order], slot[order]
    first = np.ones(len(row), bool)
    np.not_equal(row[1:], row[:-1], out=first[1:])
    born = previous == NEVER
    steps, fresh = grid.steps(slot, previous)
    values = np.concatenate([events.values for events in parts])[order]
    given = np.concatenate([events.codes for events in parts])[order]
    known = np.where(born[:, None], 0, arena.codes[row])  # a stream that begins again has named nothing yet
    codes = _codes_in_force(first | born, given, known)
    starts = first | fresh
    starts[1:] |= (codes[1:] != codes[:-1]).any(axis=1)
    wanted = grid.publishes(slot, previous)
    return Accepted(row, first, slot, steps, starts, fresh, born, wanted, values, codes)


def _codes_in_force(begins: Mask, given: Ints, known: Ints) -> Ints:
    """Static codes (n, C) at each event: what it names, else what its stream named last."""
    at = np.arange(len(begins))[:, None]
    begin = np.maximum.accumulate(np.where(begins[:, None], at, 0), axis=0)
    named = np.maximum.accumulate(np.where(given == NOT_GIVEN, -1, at), axis=0)
    before = np.take_along_axis(known, begin, axis=0)
    return np.where(named >= begin, np.take_along_axis(given, np.maximum(named, 0), axis=0), before)
