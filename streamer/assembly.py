"""An engine for a model and the settings of its input: the same one for the daemon, replay and the demo."""

import difflib
from collections.abc import Iterator, Mapping

from streamer.core.contract import Manifest, Model
from streamer.core.decoding import Decoder, Limits
from streamer.core.engine import Engine
from streamer.core.fields import KEY, TIMESTAMP, Layout, Path
from streamer.core.held import HeldHere, Hold
from streamer.core.timegrid import TimeGrid
from streamer.core.wire import ForecastEncoder, Writer, write_lines
from streamer.errors import ConfigError
from streamer.settings import InputFields, InputSettings, OutputSettings, StateSettings

HOUR_MS = 3_600_000


def engine_for(
    model: Model, events: InputSettings, state: StateSettings, every: int = 1, hold: Hold = HeldHere
) -> Engine:
    """An engine without streams.

    every  `output.every`
    hold   where the streams' states will be held

    Raises ConfigError where a setting does not fit the model, or the machine has too little memory for it.
    """
    manifest = model.manifest
    if problems := list(_unknown_fields(events.fields, manifest)):
        raise ConfigError("\n".join(problems))
    if every > 1 and manifest.step_ms is None:
        raise ConfigError(
            f"output.every: found {every}, but the model {manifest.model_id} has no regular grid to count on, "
            "expected 1; leave it out, or use a model with a step"
        )
    if manifest.step_ms and 0 < state.idle_seconds * 1000 < (least := events.max_gap_steps * manifest.step_ms):
        raise ConfigError(
            f"state.idle_seconds: found {state.idle_seconds:g}, expected 0 or at least {least / 1000:g}, as "
            f"input.max_gap_steps {events.max_gap_steps} times the step of the model {manifest.model_id}, "
            f"{manifest.step_ms / 1000:g} s: a stream would be forgotten in a gap that is to be bridged; raise it, or "
            "lower input.max_gap_steps"
        )
    grid = TimeGrid.of(
        manifest,
        nearest=events.slot == "nearest",
        max_gap_steps=events.max_gap_steps,
        idle_ms=round(state.idle_seconds * 1000),
        every=every,
    )
    try:
        return Engine(model, grid, decoder_for(manifest, events), state.max_streams, hold)
    except MemoryError as error:
        each = Engine(model, grid, decoder_for(manifest, events), 1).arena.bytes_per_stream
        raise ConfigError(
            f"state.max_streams: found {state.max_streams}, which needs {state.max_streams * each / 2**30:,.1f} GiB "
            f"({each} bytes for each stream of this model), expected no more than this machine can reserve; lower it "
            f"({error})"
        ) from None


def encoder_for(manifest: Manifest, output: OutputSettings, write: Writer = write_lines) -> ForecastEncoder:
    """The encoder of a model's forecasts, of those leads and levels that are wanted.

    Raises ConfigError for a lead or a level that the model does not have.
    """
    has_levels = ", ".join(map(repr, manifest.levels))
    problems = [
        f"output.leads: found {lead}, expected leads of the model {manifest.model_id}, 1 to {manifest.horizon}"
        for lead in output.leads
        if lead > manifest.horizon
    ]
    problems += [
        f"output.levels: found {level!r}, expected levels of the model {manifest.model_id}: {has_levels}"
        for level in output.levels
        if level not in manifest.levels
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return ForecastEncoder(manifest, output.digits, write, output.leads, output.levels)


def decoder_for(manifest: Manifest, events: InputSettings) -> Decoder:
    """The decoder of a model's input."""
    future_ms = (manifest.step_ms or 0) + HOUR_MS  # a clock may be an hour and a step ahead
    if events.max_future_seconds is not None:
        future_ms = round(events.max_future_seconds * 1000)
    limits = Limits(events.max_record_bytes, events.max_abs, future_ms)
    return Decoder(layout_of(events.fields), manifest.covariates, manifest.static, limits)


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


def _unknown_fields(fields: InputFields, manifest: Manifest) -> Iterator[str]:
    """A problem for each mapped name that the model does not have: its values would never be read."""
    mapped: tuple[tuple[str, Mapping[str, str], tuple[str, ...]], ...] = (
        ("covariates", fields.covariates, manifest.covariates),
        ("static", fields.static, tuple(manifest.static)),
    )
    for kind, paths, names in mapped:
        for name in (name for name in paths if name not in names):
            close = difflib.get_close_matches(name, names, n=1)
            remedy = f"did you mean {close[0]}?" if close else "remove it, or use a model that has it"
            has = ", ".join(names) or "none"
            yield f"input.fields.{kind}.{name}: found {name!r}, expected a name that the model has ({has}); {remedy}"
