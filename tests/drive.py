"""Drive an engine by hand: events written as Python values, forecasts read back as Python values."""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from streamer.adapters.onnx_session import OnnxModel
from streamer.assembly import engine_for
from streamer.core.engine import Engine
from streamer.core.events import Partition, Records
from streamer.settings import InputSettings, StateSettings

HOUR = 3_600_000
EVENTS = Partition("events", 0)


class Seen(NamedTuple):
    """A forecast as a consumer would see it; quantiles (H, Q)."""

    id: str
    stream: str
    origin: int
    warm: bool
    quantiles: np.ndarray


def new_engine(model: OnnxModel, max_streams: int = 100, **events: object) -> Engine:
    """An engine without streams; keyword arguments are settings of `input`."""
    return engine_for(model, InputSettings.model_validate(events), StateSettings(max_streams=max_streams))


def event(stream: str, hour: float, value: float | None = 1.0, **more: object) -> dict[str, object]:
    """An event of the default layout at an hour since the epoch."""
    return {"stream": stream, "ts": round(hour * HOUR), "value": value, **more}


def records(
    events: Iterable[object], offset: int = 0, partition: Partition = EVENTS, timestamps: Sequence[int] | None = None
) -> Records:
    """Consecutive records; an event is a dict to be written as JSON, or the raw value itself."""
    values = [e if isinstance(e, bytes | None) else json.dumps(e).encode() for e in events]
    keys = [b"key"] * len(values)
    return Records(partition, range(offset, offset + len(values)), timestamps, keys, values)


def batches(events: Sequence[object], sizes: Iterable[int], partition: Partition = EVENTS) -> list[Records]:
    """The events cut into batches of these sizes; the last takes what remains."""
    cut, at = [], 0
    for size in sizes:
        cut.append(records(events[at : at + size], at, partition))
        at += size
    return [*cut, records(events[at:], at, partition)]


def run(engine: Engine, *batch: Records) -> tuple[list[Seen], list[tuple[int, str]]]:
    """Advance by one batch: the forecasts, and (offset, reason) of each rejection."""
    seen: list[Seen] = []
    rejected: list[tuple[int, str]] = []
    for forecasts in engine.advance(batch).forecasts:
        offsets, (topic, number) = forecasts.records.offsets, forecasts.records.partition
        columns = zip(
            forecasts.index, forecasts.stream, forecasts.origin, forecasts.warm, forecasts.quantiles, strict=True
        )
        seen += [Seen(f"{topic}-{number}-{offsets[i]}", s, int(o), bool(w), q) for i, s, o, w, q in columns]
        rejected += [(offsets[r.index], r.reason) for r in forecasts.rejected]
    return seen, rejected


def run_all(engine: Engine, cut: Iterable[Records]) -> tuple[list[Seen], list[tuple[int, str]]]:
    """Advance by one batch after another."""
    seen: list[Seen] = []
    rejected: list[tuple[int, str]] = []
    for part in cut:
        forecasts, refused = run(engine, part)
        seen += forecasts
        rejected += refused
    return seen, rejected


def assert_same_forecasts(found: Sequence[Seen], expected: Sequence[Seen], tolerance: float = 1e-5) -> None:
    """Equal within tolerance of the number or of its stream's scale, whichever is larger."""
    assert [f[:4] for f in found] == [e[:4] for e in expected]
    scale: dict[str, float] = {}
    for e in expected:
        scale[e.stream] = max(scale.get(e.stream, 0.0), float(np.abs(e.quantiles).max()))
    for f, e in zip(found, expected, strict=True):
        limit = tolerance * np.maximum(np.abs(e.quantiles), scale[e.stream])
        assert (np.abs(f.quantiles - e.quantiles) <= limit).all(), (f, e)
