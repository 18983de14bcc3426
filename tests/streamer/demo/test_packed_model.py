"""The packed model on the packed year: what `streamer demo` promises to show."""

import io

import pytest

from streamer.adapters.files import open_input, read_records
from streamer.adapters.onnx_session import OnnxModel
from streamer.assembly import engine_for
from streamer.core.scoring import crossing
from streamer.core.wire import ForecastEncoder
from streamer.demo import EVENTS_PATH, MODEL_PATH, UNITS
from streamer.demo.forecasts import ScoredForecasts
from streamer.demo.score import compare, mean
from streamer.demo.year import HOUR_MS, observed
from streamer.replay import replay
from streamer.settings import InputSettings, StateSettings


@pytest.fixture(scope="module")
def replayed():
    model, settings = OnnxModel(MODEL_PATH), InputSettings()
    with open_input(str(EVENTS_PATH)) as lines:
        year = observed(lines)
    forecasts = ScoredForecasts.none(year, model.manifest)
    with open_input(str(EVENTS_PATH)) as source:
        tally = replay(
            engine_for(model, settings, StateSettings()),
            ForecastEncoder(model.manifest),
            read_records(source, "year", settings.max_record_bytes),
            io.BytesIO(),
            lambda outcome: [forecasts.keep(batch, year) for batch in outcome.forecasts],
        )
    return model, tally, year, forecasts


def test_the_packed_model_forecasts_hourly_with_the_levels_that_the_demo_scores(replayed):
    model, _, _, _ = replayed
    assert model.manifest.step_ms == HOUR_MS
    assert {0.1, 0.5, 0.9} <= set(model.manifest.levels)
    assert MODEL_PATH.stat().st_size < 4 << 20


def test_every_event_of_the_year_has_its_forecast(replayed):
    _, tally, year, forecasts = replayed
    assert (tally.consumed, tally.accepted, tally.resets) == (year.events, year.events, 0)
    assert crossing(forecasts.quantiles) == 0


def test_the_median_beats_seasonal_naive_on_five_of_six_variables_and_its_band_holds(replayed):
    _, _, year, forecasts = replayed
    scores = compare(year, forecasts)
    better = {v for v in UNITS if (c := mean_of(scores, v)).model.mase < c.naive.mase}
    assert len(better) >= 5
    assert 0.72 < mean(list(scores.values())).model.coverage < 0.88


def mean_of(scores, variable):
    return mean([score for stream, score in scores.items() if stream.endswith(f"/{variable}")])
