"""What comes out of the engine: a forecast for every accepted event, a reason for every other record."""

from dataclasses import dataclass
from itertools import compress

import numpy as np
import numpy.typing as npt

from streamer.core.decoding import Rejection
from streamer.core.events import NO_TIMESTAMP, Partition, Records
from streamer.core.timegrid import Ints, Mask


@dataclass(frozen=True, slots=True)
class Forecasts:
    """What became of one `Records`.

    index      (n,)       positions of the accepted events in the records, increasing
    stream     n ids
    row        (n,)       the stream's row in the arena
    born       (n,)       whether the event began its stream, or began it anew
    origin     (n,)       int64 UTC epoch milliseconds
    warm       (n,)       whether the stream has seen `warmup_steps` since its state was fresh
    wanted     (n,)       whether the forecast is published
    quantiles  (m, H, Q)  of the m wanted: float32, stream units; NaN where the model gave nothing finite
    rejected              the other records, each with its reason
    """

    records: Records
    index: Ints
    stream: list[str]
    row: Ints
    born: Mask
    origin: Ints
    warm: Mask
    wanted: Mask
    quantiles: npt.NDArray[np.float32]
    rejected: list[Rejection]

    def __len__(self) -> int:
        return len(self.stream)

    def published(self) -> "Forecasts":
        """These without the events whose forecasts are not wanted, and without rejections."""
        wanted = self.wanted
        if wanted.all() and not self.rejected:
            return self
        return Forecasts(
            self.records,
            self.index[wanted],
            list(compress(self.stream, wanted.tolist())),
            self.row[wanted],
            self.born[wanted],
            self.origin[wanted],
            self.warm[wanted],
            wanted[wanted],
            self.quantiles,
            [],
        )

    @property
    def offsets(self) -> Ints:
        """(n,) the offsets of the accepted events."""
        return np.asarray(self.records.offsets, np.int64)[self.index]

    @property
    def record_times(self) -> Ints:
        """(n,) the Kafka timestamp of each forecast's record, epoch milliseconds; NO_TIMESTAMP where unknown."""
        if self.records.timestamps is None:
            return np.full(len(self), NO_TIMESTAMP)
        return np.asarray(self.records.timestamps, np.int64)[self.index]


@dataclass(frozen=True, slots=True)
class Reset:
    """A stream whose state broke and was started fresh, and the time of the step at which it did."""

    partition: Partition
    stream: str
    time: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """One batch: its forecasts, one for each `Records` given, and the streams that had to be reset.

    steps  fed to the model, missing ones included
    """

    forecasts: list[Forecasts]
    resets: list[Reset]
    steps: int
