"""The report's pictures, drawn with matplotlib: losses, skill, calibration, fans, attention, data."""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.backtest import MODEL, Backtest, scored_origins
from training.checkpoint import Fitted
from training.data import Series, parts
from training.scores import MEAN
from training.stepping import TorchModel, forecasts

BLUE, ORANGE, GREY, GREEN = "#1f6fb2", "#d9822b", "#8a97a3", "#2f8f5b"
COLOURS = {MODEL: BLUE, "seasonal naive": ORANGE, "last value": GREY}
BETTER = "better"  # of the naive forecasts, at each lead
FANS = 3  # origins drawn per stream
BEFORE = 3  # horizons of history drawn before the first


@dataclass(frozen=True)
class Picture:
    """A PNG with the file name's part and the sentence under it."""

    name: str
    caption: str
    png: bytes


def pictures_of(fitted: Fitted, series: Sequence[Series], result: Backtest) -> list[Picture]:
    """All pictures that the fit has something to show in."""
    pictures = [
        _skill(result),
        _lead_losses(result),
        _reliability(result),
        *_fans(fitted, series, result),
        _data(series, fitted),
    ]
    if fitted.history:
        pictures.append(_losses(fitted))
    if fitted.network.attention is not None:
        pictures.append(_attention(fitted, series))
    return pictures


def _losses(fitted: Fitted) -> Picture:
    figure, axes = _axes()
    steps, train, validation = zip(*fitted.history, strict=True)
    axes.plot(steps, train, color=GREY, label="training")
    axes.plot(steps, validation, color=BLUE, marker="o", markersize=3, label="validation (averaged weights)")
    best = int(np.argmin(validation))
    axes.plot(steps[best], validation[best], "o", color=GREEN, label=f"kept: {validation[best]:.3f}")
    axes.set(title="Loss while training", xlabel="optimiser steps", ylabel="quantile loss, naive errors")
    axes.set_ylim(0.9 * min(*train, *validation), min(max(*train, *validation), 2 * np.median(train)) * 1.1)
    axes.legend(frameon=False)
    return _picture(figure, "losses", "Loss at each validation; the weights kept are those that validated best.")


def skills_by_lead(result: Backtest) -> dict[str, list[float]]:
    """Share of each naive forecast's loss, and of the better one's, that is saved at each lead; NaN where unknown."""
    ours = [result.of(MODEL, MEAN, lead) for lead in _leads(result)]
    skills = {BETTER: [result.skill(score) for score in ours]}
    for forecaster in result.forecasters:
        if forecaster != MODEL:
            losses = [result.of(forecaster, MEAN, score.lead).sql for score in ours]
            skills[forecaster] = [1 - s.sql / loss if loss else math.nan for s, loss in zip(ours, losses, strict=True)]
    return {name: [s if math.isfinite(s) else math.nan for s in values] for name, values in skills.items()}


def _skill(result: Backtest) -> Picture:
    figure, axes = _axes()
    for name, skills in skills_by_lead(result).items():
        best = name == BETTER
        colour, label = (BLUE, "beside the better naive forecast") if best else (COLOURS[name], f"beside {name}")
        width, above = (2, 3) if best else (1, 2)
        axes.plot(_leads(result), 100 * np.array(skills), color=colour, label=label, linewidth=width, zorder=above)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(title="Skill at each lead", xlabel="lead, steps ahead", ylabel="loss saved of a naive forecast's, %")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -100), min(max(high, 5), 100))
    axes.legend(frameon=False)
    caption = (
        "1 − loss / naive loss, higher is better; below 0 the naive forecast is better. Losses are means over the "
        "streams."
    )
    return _picture(figure, "skill", caption)


def _lead_losses(result: Backtest) -> Picture:
    figure, axes = _axes()
    leads = _leads(result)
    for forecaster in result.forecasters:
        losses = [result.of(forecaster, MEAN, lead).sql for lead in leads]
        axes.plot(leads, losses, color=COLOURS[forecaster], label=forecaster, linewidth=2 if forecaster == MODEL else 1)
    axes.set(title="Loss at each lead", xlabel="lead, steps ahead", ylabel="quantile loss (SQL), naive errors")
    top = 2.5 * max(result.of(MODEL, MEAN, lead).sql for lead in leads)
    axes.set_ylim(0, min(axes.get_ylim()[1], top))
    axes.legend(frameon=False)
    return _picture(figure, "skill-losses", "Quantile loss at each lead, lower is better; mean over the streams.")


def _leads(result: Backtest) -> list[int]:
    return sorted({s.lead for s in result.scores if s.lead})


def _reliability(result: Backtest) -> Picture:
    figure, axes = _axes(width=5.0, height=5.0)
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":", label="as it should be")
    for forecaster in result.forecasters:
        below = result.of(forecaster).below
        axes.plot(result.levels, below, marker="o", markersize=4, color=COLOURS[forecaster], label=forecaster)
    axes.set(
        title="Reliability of the quantiles",
        xlabel="quantile level",
        ylabel="share of actuals at or below it",
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
    )
    axes.legend(frameon=False)
    return _picture(figure, "reliability", "On the dotted line a quantile is passed as often as its level says.")


def _fans(fitted: Fitted, series: Sequence[Series], result: Backtest) -> Iterator[Picture]:
    """Fan charts of the streams forecast best, middling and worst, by skill."""
    rows = [s for s in result.scores if s.forecaster == MODEL and s.lead == 0 and s.stream != MEAN and s.sql == s.sql]
    ranked = sorted(rows, key=result.skill, reverse=True)
    by_name = {s.stream: s for s in series}
    places = {0: "best", len(ranked) // 2: "median", len(ranked) - 1: "worst"}
    for place, word in sorted(places.items()):
        if place < len(ranked):
            row = ranked[place]
            caption = f"The {word} of {len(ranked)} streams by skill: {row.stream}, skill {result.skill(row):.0%}."
            yield _picture(_fan(fitted, by_name[row.stream]), f"fan-{word}", caption)


def _fan(fitted: Fitted, series: Series) -> Figure:
    figure, axes = _axes(height=3.4)
    manifest, horizon, levels = fitted.manifest, fitted.manifest.horizon, fitted.manifest.levels
    borders = parts(series, fitted.config.split)
    possible = scored_origins(borders.validation, borders.end, horizon)
    origins = possible[:: horizon + 1][-FANS:]
    found = list(forecasts(TorchModel(fitted.network, manifest), [series], [0], [origins]))
    quantiles = np.concatenate([q for _, _, q in found])
    begin, end = max(0, int(origins[0]) - BEFORE * horizon), min(len(series), int(origins[-1]) + horizon + 1)
    when = _times(series)
    axes.plot(when[begin:end], series.target[begin:end], color="black", linewidth=1, label="actual", zorder=5)
    for k, (origin, q) in enumerate(zip(origins, quantiles, strict=True)):
        at = when[origin + 1 : origin + 1 + horizon]
        for i in range(len(levels) // 2):
            label = f"{levels[0]:g} to {levels[-1]:g}" if k == 0 and i == 0 else None
            axes.fill_between(
                at, q[:, i], q[:, -1 - i], color=BLUE, alpha=0.35 / (len(levels) // 2) + 0.05, linewidth=0, label=label
            )
        middle = int(np.argmin(np.abs(np.array(levels) - 0.5)))
        axes.plot(at, q[:, middle], color=BLUE, label="median" if k == 0 else None)
        axes.axvline(
            when[origin], color=GREY, linewidth=0.8, linestyle=":", label="forecast origin" if k == 0 else None
        )
    axes.set(title=f"{series.stream}: forecasts of {horizon} steps", xlabel="time, UTC", ylabel="value")
    _dated(axes)
    axes.legend(frameon=False, ncol=4, loc="upper center", bbox_to_anchor=(0.5, -0.22))
    return figure


def _attention(fitted: Fitted, series: Sequence[Series]) -> Picture:
    """Mean weights by age, after each of the last steps of the first stream."""
    attention = fitted.network.attention
    if attention is None:
        raise ValueError("the network has no attention")
    s = series[0]
    last = parts(s, fitted.config.split).end - 1
    list(forecasts(TorchModel(fitted.network, fitted.manifest), [s], [max(0, last - 4 * 128)], [np.array([last])]))
    weights = attention.last_weights if attention.last_weights is not None else torch.zeros(1, 1, 1)
    by_age = attention.by_age(weights)[0].numpy()
    figure, axes = _axes(height=3.4)
    image = axes.imshow(
        by_age.T, aspect="auto", origin="lower", cmap="Blues", extent=(0, len(by_age), 0.5, attention.span + 0.5)
    )
    figure.colorbar(image, ax=axes, label="weight")
    axes.set(title="Attention", xlabel=f"step of {s.stream}'s last block", ylabel="steps back")
    return _picture(figure, "attention", "What each step looks back at.")


def _data(series: Sequence[Series], fitted: Fitted) -> Picture:
    """Streams as they are, with the borders of the split, and how long and how complete all are."""
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    places = sorted({0, len(series) // 2, len(series) - 1})
    grid = figure.add_gridspec(len(places) + 1, 2, height_ratios=[1] * len(places) + [1.2])
    for row, place in enumerate(places):
        axes = figure.add_subplot(grid[row, :])
        _whole(axes, series[place], fitted)
        if row == 0:
            axes.legend(frameon=False, ncol=2, loc="lower right", bbox_to_anchor=(1, 0.97))
    lengths = figure.add_subplot(grid[-1, 0])
    lengths.hist([len(s) for s in series], bins=30, range=(0, 1.05 * max(map(len, series))), color=BLUE)
    lengths.set(xlabel="length of a stream, steps", ylabel="streams")
    lengths.xaxis.set_major_locator(MaxNLocator(6))
    missing = figure.add_subplot(grid[-1, 1])
    missing.hist([100 * (1 - float(s.observed[:, 0].mean())) for s in series], bins=30, range=(0, 100), color=ORANGE)
    missing.set(xlabel="missing steps of a stream, %", ylabel="streams")
    for axes in (lengths, missing):
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        _plain(axes)
    caption = (
        f"{len(places)} of {len(series):,} streams with their split, times in UTC, and the lengths and missing steps "
        "of all. What lies before the coloured parts is trained on."
    )
    return _picture(figure, "data", caption)


def _whole(axes: Axes, series: Series, fitted: Fitted) -> None:
    """One stream, the validation and test parts shaded."""
    when, borders = _times(series), parts(series, fitted.config.split)
    axes.plot(when, series.target, color="black", linewidth=0.5)
    for begin, end, colour, label in (
        (borders.train, borders.validation, ORANGE, "validation"),
        (borders.validation, borders.end, BLUE, "test"),
    ):
        if begin < end:
            axes.axvspan(when[begin], when[end - 1], color=colour, alpha=0.18, linewidth=0, label=label)
    axes.set_title(series.stream, fontsize=9, loc="left")
    axes.set(ylabel="value")
    _dated(axes)
    _plain(axes)


def _times(series: Series) -> npt.NDArray[np.object_]:
    return np.array([datetime.fromtimestamp(t / 1000, UTC) for t in series.time])


def _dated(axes: Axes) -> None:
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _axes(width: float = 9.0, height: float = 3.8) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6ebf0", linewidth=0.7)
    axes.set_axisbelow(True)


def _picture(figure: Figure, name: str, caption: str) -> Picture:
    out = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # an id in a script the font has not; the text names it
        figure.savefig(out, format="png", dpi=110)
    return Picture(name, caption, out.getvalue())
