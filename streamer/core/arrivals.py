"""Back from streams to records: what became of each record of a batch, in the order in which they came."""

import numpy as np
import numpy.typing as npt

from streamer.core.decoding import Events, Rejection
from streamer.core.events import Records
from streamer.core.forecasts import Forecasts
from streamer.core.timegrid import NEVER, Ints, Judgement, Mask, TimeGrid


class Arrivals:
    """The judgement of a batch's events, back in the order in which they came.

    wanted  (m,)  of the accepted events, stream by stream, whether the forecast is published
    places        of those that are wanted, stream by stream, the position among all wanted as they came
    """

    def __init__(self, row: Ints, slot: Ints, judged: Judgement, grid: TimeGrid, wanted: Mask) -> None:
        n = len(slot)
        self._row, self._slot, self._grid = row, slot, grid
        self._accepted, self._duplicate = np.zeros(n, bool), np.zeros(n, bool)
        self._previous, self._place = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self._accepted[judged.order] = judged.accepted
        self._duplicate[judged.order] = judged.duplicate
        self._previous[judged.order] = judged.previous
        self._place[judged.order] = np.cumsum(judged.accepted) - 1
        at = judged.order[judged.accepted][wanted]
        self._wanted = np.zeros(n, bool)
        self._wanted[at] = True
        self._published = np.concatenate(([0], np.cumsum(self._wanted)))  # before each event, and in all
        self.places: Ints = self._published[at]

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
            self._row[here][at],
            self._previous[here][at] == NEVER,
            self._grid.times(self._slot[here][at]),
            warm[place],
            self._wanted[here][at],
            quantiles[self._published[begin] : self._published[here.stop]],
            sorted(events.rejected + refused, key=lambda rejection: rejection.index),
        )

    def _refusal(self, index: int, at: int) -> Rejection:
        slot, current = (int(t) for t in self._grid.times(np.array([self._slot[at], self._previous[at]])))
        if self._duplicate[at]:
            return Rejection(index, "duplicate", f"the stream's slot {slot} already has its event")
        return Rejection(index, "late", f"the event's slot {slot} lies before its stream's, {current}")
