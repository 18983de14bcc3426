"""Cut a batch of steps into blocks: padded sequences that one model call advances together.

A recurrent model must see a stream's steps one after another, but streams are independent. So each row of
a block is a run of one stream's steps, and runs of similar length share a block:

    batch   a1 b1 a2 c1 a3 d1      block 0   a1 a2 a3        length 3
                                   block 1   b1              length 1
                                             c1                     1
                                             d1                     1

A run ends where its stream starts fresh, changes a static category, or gets longer than a block may be; the
stream's next run is then in a later block.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamer.core.acceptance import Accepted
from streamer.core.contract import Block
from streamer.core.timegrid import Ints, Mask, TimeGrid

MAX_STEPS = 256  # T: longer gains nothing (one row of 100 steps already runs at 0.7 of the best rate)
MAX_ELEMENTS = 1 << 12  # B·T: a block's activations stay in a core's cache; 1024 to 8192 measure alike, more is slower
GAP = -1  # a step whose forecast nobody wants


@dataclass(frozen=True, slots=True)
class Run:
    """Where the rows of one block come from.

    row     (B,)  arena rows, each once
    fresh   (B,)  whether the row's state starts as all zeros
    first   (B,)  the row's first step, counted over the whole batch
    events  (N,)  the events whose forecasts the block emits, as positions among the wanted ones of `Accepted`
    """

    row: Ints
    fresh: Mask
    first: Ints
    events: Ints


class Steps:
    """The steps of one or more accepted events, gaps included, one stream after another: blocks are cut from them."""

    def __init__(
        self, accepted: Accepted, grid: TimeGrid, value_dtype: np.dtype[np.generic], emit: bool = True
    ) -> None:
        self.last = np.cumsum(accepted.steps) - 1  # each event's own step
        total = int(self.last[-1]) + 1
        missing = np.isnan(accepted.values)
        self.value = np.zeros((total, accepted.values.shape[1]), value_dtype)
        self.value[self.last] = np.where(missing, 0, accepted.values)
        self.observed = np.zeros(self.value.shape, np.float32)
        self.observed[self.last] = ~missing
        self.event = np.full(total, GAP, np.int64)
        if emit:
            wanted = self.last[accepted.wanted]
            self.event[wanted] = np.arange(len(wanted))
        back = np.repeat(self.last, accepted.steps) - np.arange(total)
        self.time = grid.times(np.repeat(accepted.slot, accepted.steps) - (back if grid.step_ms else 0))
        self._accepted = accepted

    def blocks(self, max_steps: int = MAX_STEPS) -> Iterator[tuple[Run, Block]]:
        """Blocks in an order in which each stream's runs follow one another."""
        accepted = self._accepted
        first, length, event, turn = self._runs(max_steps)
        size = np.ceil(np.log2(length)).astype(np.int64)  # lengths in (2^(k-1), 2^k] together: padding below 2 ×
        order = np.lexsort((size, turn))
        edges = np.flatnonzero(np.diff(turn[order]) | np.diff(size[order])) + 1
        for group in np.split(order, edges):
            rows = MAX_ELEMENTS >> int(size[group[0]])
            for at in range(0, len(group), rows):
                part = group[at : at + rows]
                fresh = accepted.fresh[event[part]] & (first[part] == self.last[event[part]])  # fresh: one step fed
                yield self._block(
                    accepted.row[event[part]], fresh, first[part], length[part], accepted.codes[event[part]]
                )

    def _runs(self, max_steps: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Each run's first step, length, first event, and its turn among its stream's runs."""
        accepted = self._accepted
        events = np.flatnonzero(accepted.starts)
        begin = self.last[events] - accepted.steps[events] + 1
        total = len(self.event)
        whole = np.diff(np.append(begin, total))
        pieces = -(-whole // max_steps)
        within = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        first = np.repeat(begin, pieces) + within * max_steps
        length = np.minimum(np.repeat(begin + whole, pieces) - first, max_steps)
        event = np.repeat(events, pieces)
        row = accepted.row[event]
        new = np.ones(len(row), bool)
        np.not_equal(row[1:], row[:-1], out=new[1:])
        at = np.arange(len(row))
        return first, length, event, at - np.maximum.accumulate(np.where(new, at, 0))

    def _block(self, row: Ints, fresh: Mask, first: Ints, length: Ints, codes: Ints) -> tuple[Run, Block]:
        steps = int(length.max())
        at = first[:, None] + np.arange(steps)
        if steps > 1:
            real = np.arange(steps) < length[:, None]
            at = np.where(real, at, first[:, None])
            event = np.where(real, self.event[at], GAP).ravel()
            value, observed = self.value[at] * real[..., None], self.observed[at] * real[..., None]
        else:
            event, value, observed = self.event[at].ravel(), self.value[at], self.observed[at]
        emit = np.flatnonzero(event != GAP)
        block = Block(value, observed, self.time[at], length, emit, codes)
        return Run(row, fresh, first, event[emit]), block
