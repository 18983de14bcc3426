"""The fan chart: actuals, median and 80 % band of a few forecasts, one panel per variable."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from streamer.demo import UNITS
from streamer.demo.forecasts import ScoredForecasts
from streamer.demo.score import LOWER, MEDIAN, UPPER
from streamer.demo.year import HOUR_MS, Year

AIRPORT = "JFK"
BEGIN = datetime(2013, 10, 4, tzinfo=UTC)  # a week in which the weather changes, chosen before a model was there
DAYS = 8
ORIGIN_EVERY_HOURS = 48
DAY_MS = 24 * HOUR_MS
TITLES = {
    "temp": "Air temperature",
    "dewp": "Dew point",
    "humid": "Relative humidity",
    "wind_speed": "Wind speed",
    "pressure": "Pressure",
    "visib": "Visibility",
}
OBSERVED, FORECAST = "#333333", "#0b62a4"


def draw(year: Year, forecasts: ScoredForecasts, model: str, path: Path) -> None:
    """Write a PNG of one airport's variables over a few days of the test, with a forecast every other noon."""
    begin = round((BEGIN - year.time(0)).total_seconds() / 3600)
    hours = range(begin, min(begin + DAYS * 24, year.values.shape[1]))
    origins = hours[12::ORIGIN_EVERY_HOURS]
    figure = Figure(figsize=(13, 9), dpi=110, layout="constrained")
    panels: list[Axes] = list(figure.subplots(3, 2, sharex=True).flat)
    for panel, (variable, unit) in zip(panels, UNITS.items(), strict=True):
        s = year.streams.index(f"{AIRPORT}/{variable}")
        panel.set_title(TITLES[variable], loc="left", fontsize=11, fontweight="bold")
        panel.set_ylabel(unit)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        panel.plot(_days(year, hours), year.values[s, hours.start : hours.stop], OBSERVED, lw=1.2, label="observed")
        for origin in origins:
            if forecasts.made[s, origin - year.test]:
                _fan(panel, year, origin, forecasts.quantiles[s, origin - year.test], forecasts.levels)
    for panel in panels[-2:]:
        panel.set_xlabel(f"{year.time(hours[0]).year}, UTC")
        panel.xaxis.set_major_locator(MultipleLocator(1))
        panel.xaxis.set_major_formatter(FuncFormatter(_date))
    horizon = forecasts.quantiles.shape[2]
    figure.suptitle(f"Weather at {AIRPORT}: forecasts {horizon} hours ahead by {model}, beside what came", fontsize=14)
    by_label = {text: handle for handle, text in zip(*panels[0].get_legend_handles_labels(), strict=True)}
    figure.legend(by_label.values(), by_label.keys(), loc="outside lower center", ncols=len(by_label), frameon=False)
    figure.align_ylabels(panels)
    figure.savefig(path)


def _fan(panel: Axes, year: Year, origin: int, quantiles: npt.NDArray[np.float32], levels: tuple[float, ...]) -> None:
    """One forecast, quantiles (H, Q), and a mark where it was made."""
    ahead = _days(year, range(origin + 1, origin + 1 + len(quantiles)))
    lower, median, upper = (quantiles[:, levels.index(level)] for level in (LOWER, MEDIAN, UPPER))
    panel.axvline(_days(year, range(origin, origin + 1))[0], color=FORECAST, lw=0.8, ls=":", label="forecast made")
    panel.fill_between(ahead, lower, upper, color=FORECAST, alpha=0.25, lw=0, label="80 % band")
    panel.plot(ahead, median, FORECAST, lw=1.8, label="median")


def _days(year: Year, hours: range) -> npt.NDArray[np.float64]:
    """Hours as days since 1970, which number the time axis."""
    return (year.start_ms + np.array(hours) * HOUR_MS) / DAY_MS


def _date(day: float, _position: int | None) -> str:
    date = datetime.fromtimestamp(day * DAY_MS / 1000, UTC)
    return f"{date.day} {date:%b}"
