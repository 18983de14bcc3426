"""The demo's events as an hourly table: what was observed, for scoring and drawing."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import numpy as np
import numpy.typing as npt

HOUR_MS = 3_600_000
TEST_BEGIN_MS = int(datetime(2013, 9, 1, tzinfo=UTC).timestamp()) * 1000  # the model is trained on what lies before


class _Event(msgspec.Struct):
    stream: str
    ts: int
    value: float | None


@dataclass(frozen=True, slots=True)
class Year:
    """Hourly observations of S streams.

    streams   S ids, `airport/variable`
    start_ms  the first hour, UTC epoch milliseconds
    values    (S, T)  stream units; NaN where missing
    test      hours before this one are history, the others are scored
    events    how many events made the table
    """

    streams: tuple[str, ...]
    start_ms: int
    values: npt.NDArray[np.float64]
    test: int
    events: int

    def time(self, hour: int) -> datetime:
        """The start of an hour, in UTC."""
        return datetime.fromtimestamp((self.start_ms + hour * HOUR_MS) / 1000, UTC)


def observed(lines: Iterable[bytes], test_begin_ms: int = TEST_BEGIN_MS) -> Year:
    """The table that event lines make; of two events in one hour the first counts, as in the engine."""
    decode = msgspec.json.Decoder(_Event).decode
    events = [decode(line) for line in lines]
    streams = tuple(sorted({e.stream for e in events}))
    row = {stream: s for s, stream in enumerate(streams)}
    hours = np.array([e.ts for e in events]) // HOUR_MS
    first = int(hours.min())
    values = np.full((len(streams), int(hours.max()) - first + 1), np.nan)
    for e, hour in zip(reversed(events), reversed((hours - first).tolist()), strict=True):
        values[row[e.stream], hour] = np.nan if e.value is None else e.value
    return Year(streams, first * HOUR_MS, values, test_begin_ms // HOUR_MS - first, len(events))
