"""`streamer demo`: replay the packed year through the engine, score its last four months, show the result."""

import importlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from streamer.adapters.files import open_input, open_output, read_records
from streamer.adapters.forecast_text import forecast_writer
from streamer.adapters.onnx_session import OnnxModel
from streamer.assembly import engine_for
from streamer.core.forecasts import Outcome
from streamer.core.wire import ForecastEncoder
from streamer.demo import EVENTS_PATH, MODEL_PATH
from streamer.demo.forecasts import ScoredForecasts
from streamer.demo.score import compare
from streamer.demo.year import Year, observed
from streamer.errors import ConfigError
from streamer.replay import Tally, replay
from streamer.settings import InputSettings, StateSettings

FORECASTS, CHART = "forecasts.jsonl", "fan-chart.png"
EXTRA = ("rich", "matplotlib")


def run_demo(output: Path, model_path: Path = MODEL_PATH, events_path: Path = EVENTS_PATH) -> None:
    """Print the tables; write the forecasts and the chart into a folder, made if it is not there.

    Raises ConfigError if the extra `demo` is not installed or the folder cannot be written.
    """
    _need_extra()
    from streamer.demo import chart, report  # these two import the extra

    model = OnnxModel(model_path)
    _make(output)
    with open_input(str(events_path)) as lines:
        year = observed(lines)
    forecasts = ScoredForecasts.none(year, model.manifest)
    with report.progress(year.events, f"a year of weather through {model.manifest.model_id}") as advance:
        tally, seconds = _replay(model, events_path, output / FORECASTS, _watcher(year, forecasts, advance))
    report.print_replay(tally, seconds)
    report.print_scores(compare(year, forecasts), forecasts.levels)
    chart.draw(year, forecasts, model.manifest.model_id, output / CHART)
    report.print_files(output / FORECASTS, output / CHART)


def keyed_events() -> Iterator[tuple[bytes, bytes]]:
    """The stream id and the event line, without its line feed, of every event."""
    with open_input(str(EVENTS_PATH)) as lines:
        for line in lines:
            yield line.split(b'"', 4)[3], line.rstrip()  # the packed lines all begin with {"stream":"…"


def write_events(sink: BinaryIO, keyed: bool) -> None:
    """The demo's event lines; keyed puts `stream<TAB>` before each, as Kafka's console producer reads keys."""
    for key, line in keyed_events():
        sink.write(b"%s\t%s\n" % (key, line) if keyed else line + b"\n")
    sink.flush()


def _replay(model: OnnxModel, events: Path, sink: Path, watch: Callable[[Outcome], None]) -> tuple[Tally, float]:
    """What the replay did, and its seconds from the first byte read to the last forecast written."""
    settings = InputSettings()
    engine = engine_for(model, settings, StateSettings())
    encoder = ForecastEncoder(model.manifest, write=forecast_writer())
    begin = time.perf_counter()
    with open_input(str(events)) as source, open_output(str(sink), str(events)) as written:
        records = read_records(source, events.name, settings.max_record_bytes)
        tally = replay(engine, encoder, records, written, watch)
    return tally, time.perf_counter() - begin


def _watcher(year: Year, forecasts: ScoredForecasts, advance: Callable[[int], None]) -> Callable[[Outcome], None]:
    def watch(outcome: Outcome) -> None:
        for batch in outcome.forecasts:
            forecasts.keep(batch, year)
            advance(len(batch.records))

    return watch


def _need_extra() -> None:
    for name in EXTRA:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            raise ConfigError(
                f"{name} is not installed, and the demo's tables and chart need it; "
                "do `pip install '.[demo]'` in a clone of Tidecast"
            ) from None


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output: cannot make the folder {str(folder)!r}: {error.strerror}; name another") from None
