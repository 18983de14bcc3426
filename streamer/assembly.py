"""An engine for a model and the settings of its input: the same one for the daemon, replay and the demo."""

from streamer.core.contract import Model
from streamer.core.decoding import Decoder, Limits
from streamer.core.engine import Engine
from streamer.core.fields import KEY, TIMESTAMP, Layout, Path
from streamer.core.timegrid import TimeGrid
from streamer.settings import InputFields, InputSettings, StateSettings

HOUR_MS = 3_600_000


def engine_for(model: Model, events: InputSettings, state: StateSettings) -> Engine:
    """An engine without streams."""
    manifest = model.manifest
    future_ms = (manifest.step_ms or 0) + HOUR_MS  # a clock may be an hour and a step ahead
    if events.max_future_seconds is not None:
        future_ms = round(events.max_future_seconds * 1000)
    limits = Limits(events.max_record_bytes, events.max_abs, future_ms)
    decoder = Decoder(layout_of(events.fields), manifest.covariates, manifest.static, limits)
    grid = TimeGrid.of(manifest, nearest=events.slot == "nearest", max_gap_steps=events.max_gap_steps)
    return Engine(model, grid, decoder, state.max_streams)


def layout_of(fields: InputFields) -> Layout:
    """Dotted paths as the decoder takes them."""

    def path(text: str) -> Path:
        return (text,) if text in (KEY, TIMESTAMP) else tuple(text.split("."))

    return Layout(
        path(fields.stream),
        path(fields.ts),
        fields.ts_unit,
        path(fields.value),
        {name: path(text) for name, text in fields.covariates.items()},
        {name: path(text) for name, text in fields.static.items()},
    )
