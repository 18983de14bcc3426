"""An engine made from settings: what does not fit the model or the machine is refused, and said so."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from streamer.adapters.onnx_session import OnnxModel
from streamer.assembly import encoder_for, engine_for
from streamer.core.contract import StateSpec
from streamer.errors import ConfigError
from streamer.settings import InputSettings, OutputSettings, StateSettings
from tests import models

STATE = StateSettings(max_streams=10)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    design = models.echo(covariates=("temp", "wind"), static={"site": ("north", "south")})
    return OnnxModel(str(models.save(design, tmp_path_factory.mktemp("model") / "echo.onnx")))


def mapped(**fields):
    return InputSettings.model_validate({"fields": fields})


def refusal(model, events, state=STATE):
    with pytest.raises(ConfigError) as error:
        engine_for(model, events, state)
    return str(error.value)


def test_names_that_the_model_has_can_be_mapped(model):
    engine = engine_for(model, mapped(covariates={"temp": "w.t"}, static={"site": "at"}), STATE)
    assert engine.arena.max_streams == 10


def test_a_mapped_covariate_that_the_model_does_not_have_is_refused_with_a_guess(model):
    assert refusal(model, mapped(covariates={"tmp": "w.t"})) == (
        "input.fields.covariates.tmp: found 'tmp', expected a name that the model has (temp, wind); did you mean temp?"
    )


def test_a_mapped_category_that_the_model_does_not_have_is_refused(model):
    assert refusal(model, mapped(static={"country": "c"})) == (
        "input.fields.static.country: found 'country', expected a name that the model has (site); "
        "remove it, or use a model that has it"
    )


def test_a_stream_is_not_to_be_forgotten_in_a_gap_that_is_bridged(model):
    hour = model.manifest.step_ms / 1000
    events = InputSettings(max_gap_steps=5)
    told = refusal(model, events, STATE.model_copy(update={"idle_seconds": 5 * hour - 1}))
    assert told.startswith(f"state.idle_seconds: found {5 * hour - 1:g}, expected 0 or at least {5 * hour:g}, as ")
    assert "raise it, or lower input.max_gap_steps" in told
    assert engine_for(model, events, STATE.model_copy(update={"idle_seconds": 5 * hour})).grid.idle_slots == 5
    assert engine_for(model, events, STATE).grid.idle_slots is None


def test_every_mapped_name_is_reported_at_once(model):
    message = refusal(model, mapped(covariates={"a": "a", "temp": "t", "b": "b"}, static={"temp": "t"}))
    assert [line.split(":")[0] for line in message.splitlines()] == [
        "input.fields.covariates.a",
        "input.fields.covariates.b",
        "input.fields.static.temp",
    ]


def test_a_model_without_covariates_has_none_to_map(tmp_path):
    plain = OnnxModel(str(models.save(models.echo(), tmp_path / "echo.onnx")))
    assert "expected a name that the model has (none)" in refusal(plain, mapped(covariates={"temp": "t"}))


def test_more_streams_than_memory_can_be_reserved_for_are_refused_with_their_size(model):
    state = StateSpec("huge", np.dtype(np.float64), (1 << 20,))  # 8 MiB a stream: more than any address space
    huge = SimpleNamespace(manifest=model.manifest, signature=replace(model.signature, states=(state,)))
    message = refusal(huge, InputSettings(), StateSettings(max_streams=1_000_000_000))
    assert message.startswith("state.max_streams: found 1000000000, which needs 7,812,5")
    assert "expected no more than this machine can reserve; lower it (Unable to allocate 7." in message


def test_forecasts_cannot_be_thinned_where_there_is_no_grid_to_count_on(tmp_path):
    design = models.echo(step_ms=None)
    per_event = OnnxModel(str(models.save(design, tmp_path / "echo.onnx")))
    assert engine_for(per_event, InputSettings(), STATE, every=1).grid.every == 1
    with pytest.raises(
        ConfigError, match=r"output\.every: found 12, but the model .* has no regular grid .*expected 1"
    ):
        engine_for(per_event, InputSettings(), STATE, every=12)


def test_leads_and_levels_that_the_model_does_not_have_are_refused_all_at_once(model):
    horizon, levels = model.manifest.horizon, model.manifest.levels
    encoder_for(model.manifest, OutputSettings(leads=(1, horizon), levels=levels[:1]))
    with pytest.raises(ConfigError) as error:
        encoder_for(model.manifest, OutputSettings(leads=(1, horizon + 1), levels=(levels[0], 0.123)))
    assert f"output.leads: found {horizon + 1}, expected leads of the model" in str(error.value)
    assert "output.levels: found 0.123, expected levels of the model" in str(error.value)
    assert ", ".join(map(repr, levels)) in str(error.value)
