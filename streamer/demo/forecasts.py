"""Keep the forecasts of the test months while the year is replayed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamer.core.contract import Manifest
from streamer.core.forecasts import Forecasts
from streamer.demo.year import HOUR_MS, Year


@dataclass(frozen=True, slots=True)
class ScoredForecasts:
    """Forecasts by stream and hour of origin, from the year's test on.

    levels     Q quantile levels
    made       (S, T − test)        whether the stream has a forecast from that hour
    quantiles  (S, T − test, H, Q)  stream units; zeros where none was made
    """

    levels: tuple[float, ...]
    made: npt.NDArray[np.bool_]
    quantiles: npt.NDArray[np.float32]

    @classmethod
    def none(cls, year: Year, manifest: Manifest) -> "ScoredForecasts":
        """Room for a model's forecasts of a year, nothing made yet."""
        origins = (len(year.streams), max(year.values.shape[1] - year.test, 0))
        shape = (*origins, manifest.horizon, len(manifest.levels))
        return cls(manifest.levels, np.zeros(origins, bool), np.zeros(shape, np.float32))

    def keep(self, forecasts: Forecasts, year: Year) -> None:
        """Keep those of a batch whose origin lies in the test."""
        hour = (forecasts.origin - year.start_ms) // HOUR_MS - year.test
        scored = np.flatnonzero(hour >= 0)
        row = {stream: s for s, stream in enumerate(year.streams)}
        stream = [row[forecasts.stream[i]] for i in scored.tolist()]
        self.made[stream, hour[scored]] = True
        self.quantiles[stream, hour[scored]] = forecasts.quantiles[scored]
