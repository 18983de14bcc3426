"""Replay: events from a file through the very engine that the daemon runs, forecasts to a file."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from streamer.batches import BatchLimit
from streamer.core.engine import Engine
from streamer.core.events import Records
from streamer.core.fields import KEY, TIMESTAMP
from streamer.core.forecasts import Outcome
from streamer.core.wire import ForecastEncoder
from streamer.errors import ConfigError
from streamer.settings import InputFields


@dataclass
class Tally:
    """What a replay did; consumed = accepted + all rejected."""

    consumed: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    resets: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count one batch."""
        for forecasts in outcome.forecasts:
            self.consumed += len(forecasts.records)
            self.accepted += len(forecasts)
            self.rejected.update(rejection.reason for rejection in forecasts.rejected)
        self.resets += len(outcome.resets)

    def __str__(self) -> str:
        reasons = "".join(f" {reason}={count}" for reason, count in sorted(self.rejected.items()))
        resets = f" resets={self.resets}" if self.resets else ""
        return f"consumed={self.consumed} accepted={self.accepted} rejected={self.rejected.total()}{reasons}{resets}"


def refuse_record_fields(fields: InputFields) -> None:
    """Raises ConfigError where a field is found in a Kafka record outside its value: a file has only values."""
    for setting, found, special in (("stream", fields.stream, KEY), ("ts", fields.ts, TIMESTAMP)):
        if found == special:
            raise ConfigError(
                f"input.fields.{setting}: found {found}, but lines of a file have neither keys nor timestamps; "
                f"put the {setting} into the events, and replay with --input.fields.{setting} PATH"
            )


def replay(
    engine: Engine,
    encoder: ForecastEncoder,
    source: Iterable[Records],
    sink: BinaryIO,
    watch: Callable[[Outcome], None] = lambda outcome: None,
) -> Tally:
    """Forecast every accepted event of a source and write the wanted forecasts as lines.

    What the source yields is advanced in batches as the daemon's: a long horizon's forecasts of all of it would need
    gigabytes.

    watch  sees each batch's outcome as it is written
    """
    tally = Tally()
    for outcome in _outcomes(engine, source):
        for forecasts in outcome.forecasts:
            sink.writelines(line + b"\n" for line in encoder.encode(forecasts.published()))
        sink.flush()
        tally.add(outcome)
        watch(outcome)
    return tally


def _outcomes(engine: Engine, source: Iterable[Records]) -> Iterator[Outcome]:
    manifest = engine.model.manifest
    limit = BatchLimit(manifest.horizon * len(manifest.levels), engine.arena.bytes_per_stream)
    for records in source:
        done = 0
        while done < len(records):
            batch = records.part(done, done + limit.records)
            done += len(batch)
            outcome = engine.advance([batch])
            limit.advanced(len(batch), outcome.steps)
            yield outcome
