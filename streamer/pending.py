"""What was forecast and not committed yet: messages by output partition, and the offsets that go with them."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streamer.core.events import Headers, Partition
from streamer.core.forecasts import Forecasts, Outcome
from streamer.core.wire import ForecastEncoder, dead_letter_headers
from streamer.delivery import Messages


@dataclass
class _Columns:
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)


@dataclass(frozen=True)
class Taken:
    """One commit's worth.

    messages      forecasts, then dead letters
    offsets       the next record to read of each input partition
    record_times  (n,) int64 Kafka timestamps of the forecasts' records, epoch milliseconds; NO_TIMESTAMP where unknown
    dead_letters  how many of the messages are such
    """

    messages: list[Messages]
    offsets: dict[Partition, int]
    record_times: npt.NDArray[np.int64]
    dead_letters: int


class Pending:
    """Collects outcomes until they are committed together.

    dead_letter_topic  empty: rejected records are only counted
    """

    def __init__(self, encoder: ForecastEncoder, output_topic: str, dead_letter_topic: str) -> None:
        self._encoder = encoder
        self._output_topic = output_topic
        self._dead_letter_topic = dead_letter_topic
        self._clear()

    def __bool__(self) -> bool:
        return self.records > 0

    def add(self, outcome: Outcome) -> None:
        """Everything that became of a batch."""
        for forecasts in filter(lambda f: len(f.records), outcome.forecasts):
            number = forecasts.records.partition.number
            columns = self._forecasts.setdefault(Partition(self._output_topic, number), _Columns())
            columns.values += self._encoder.encode(forecasts)
            columns.keys += [stream.encode() for stream in forecasts.stream]
            if self._dead_letter_topic and forecasts.rejected:
                self._add_dead_letters(forecasts)
            self._record_times.append(forecasts.record_times)
            self._offsets[forecasts.records.partition] = forecasts.records.offsets[-1] + 1
            self.records += len(forecasts.records)

    def take(self) -> Taken:
        """Hand everything over and begin anew."""
        forecasts = [Messages(p, c.keys, c.values) for p, c in self._forecasts.items() if c.keys]
        letters = [Messages(p, c.keys, c.values, c.headers) for p, c in self._dead_letters.items()]
        taken = Taken(
            forecasts + letters, self._offsets, np.concatenate(self._record_times), sum(len(m.keys) for m in letters)
        )
        self._clear()
        return taken

    def _clear(self) -> None:
        self._forecasts: dict[Partition, _Columns] = {}
        self._dead_letters: dict[Partition, _Columns] = {}
        self._offsets: dict[Partition, int] = {}
        self._record_times: list[npt.NDArray[np.int64]] = []
        self.records = 0

    def _add_dead_letters(self, forecasts: Forecasts) -> None:
        records = forecasts.records
        columns = self._dead_letters.setdefault(
            Partition(self._dead_letter_topic, records.partition.number), _Columns()
        )
        for rejection in forecasts.rejected:
            columns.keys.append(records.keys[rejection.index])
            columns.values.append(records.values[rejection.index])
            columns.headers.append(dead_letter_headers(rejection, records))
