"""Rolling-origin backtest: forecast from every origin of the test part, beside the two naive forecasts.

The model's file is advanced by onnxruntime, as the daemon does, each stream from its first step. A naive
forecast's quantiles are its value plus the quantiles of its own errors before the test part.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from streamer.core.contract import Model
from streamer.core.scoring import coverage, crossing, mase, pinball_loss, seasonal_naive_error, smape
from streamer.errors import ConfigError
from training.config import Split
from training.data import Series, parts
from training.stepping import forecasts, targets

Floats = npt.NDArray[np.floating]
MEAN = "mean"


@dataclass(frozen=True)
class Score:
    """One forecaster's scores on one stream, or their mean over the streams.

    sql       scaled quantile loss: mean pinball loss, doubled, over the train part's seasonal-naive error
    mase      of the level nearest to the median
    coverage  share of actuals between the lowest and the highest level
    crossing  share of neighbouring quantiles in the wrong order
    """

    stream: str
    forecaster: str
    forecasts: int
    sql: float
    mase: float
    smape: float
    coverage: float
    crossing: float


@dataclass(frozen=True)
class Backtest:
    """Scores of each stream and, under the stream `mean`, of all; levels are the model's."""

    levels: tuple[float, ...]
    season: int
    scores: tuple[Score, ...]

    def of(self, forecaster: str, stream: str = MEAN) -> Score:
        """One score. Raises KeyError if there is none."""
        for score in self.scores:
            if (score.forecaster, score.stream) == (forecaster, stream):
                return score
        raise KeyError((forecaster, stream))

    def as_json(self) -> dict[str, Any]:
        """Plain values, NaN as None."""
        rows = [{k: None if v != v else v for k, v in asdict(s).items()} for s in self.scores]
        return {"levels": list(self.levels), "season": self.season, "scores": rows}

    def table(self, per_stream: bool = False) -> Table:
        """A table for the terminal."""
        share = round(100 * (self.levels[-1] - self.levels[0]))
        table = Table(title=f"Backtest, season {self.season} steps")
        names = ("stream", "forecaster", "forecasts", "SQL", "MASE", "sMAPE %", f"coverage of {share} %")
        for name in names:
            table.add_column(name, justify="left" if name in names[:2] else "right", no_wrap=name in names[:2])
        for s in self.scores:
            if per_stream or s.stream == MEAN:
                numbers = (f"{s.sql:.3f}", f"{s.mase:.3f}", f"{s.smape:.2f}", f"{s.coverage:.3f}")
                table.add_row(s.stream, s.forecaster, f"{s.forecasts:,}", *numbers)
        return table


def backtest(model: Model, series: Sequence[Series], split: Split, season: int, stride: int = 1) -> Backtest:
    """Score `model`, seasonal naive and last value from every `stride`-th origin of the test part.

    season  steps, of the seasonal naive forecast and of the scale of MASE

    Raises ConfigError where the test part holds no whole forecast.
    """
    horizon, levels = model.manifest.horizon, model.manifest.levels
    borders = [parts(s, split) for s in series]
    origins = [np.arange(p.validation - 1, p.end - horizon, stride) for p in borders]
    if not any(map(len, origins)):
        raise ConfigError(f"split: the test part of no stream holds {horizon} steps; move validation_end or end")
    found: dict[int, list[npt.NDArray[np.float32]]] = {}
    for i, _, quantiles in forecasts(model, series, [0] * len(series), origins):
        found.setdefault(i, []).append(quantiles)
    scores = []
    for i, pieces in sorted(found.items()):
        history, actual = series[i].target[: borders[i].train], targets(series[i], origins[i], horizon)
        scale = seasonal_naive_error(history, season)
        predictions: dict[str, Floats] = {"model": np.concatenate(pieces)}
        for name, lag in (("seasonal naive", season), ("last value", 1)):
            predictions[name] = naive(series[i], origins[i], borders[i].validation, lag, horizon, levels)
        for name, predicted in predictions.items():
            scores.append(_score(series[i].stream, name, actual, predicted, scale, levels))
    return Backtest(levels, season, (*scores, *_means(scores)))


def naive(
    series: Series, origins: npt.NDArray[np.int64], known: int, lag: int, horizon: int, levels: Sequence[float]
) -> Floats:
    """The value a whole number of lags before each lead, with its errors' quantiles (n, H, Q).

    known  steps before the test part, whose errors are taken. A missing value is the one a lag earlier.
    """
    target = _filled(series.target, lag)
    lead = np.arange(1, horizon + 1)
    back = lead - lag * -(-lead // lag)
    past = np.arange(lag - 1, max(known - horizon, lag))
    error = targets(series, past, horizon) - target[past[:, None] + back]
    spread = np.stack([_quantiles(error[:, h], levels) for h in range(horizon)])
    quantiles: Floats = target[np.maximum(origins[:, None] + back, 0)][..., None] + spread
    return quantiles


def _filled(target: Floats, lag: int) -> Floats:
    out = target.copy()
    for t in range(lag, len(out)):
        if np.isnan(out[t]):
            out[t] = out[t - lag]
    return out


def _quantiles(errors: Floats, levels: Sequence[float]) -> Floats:
    seen = errors[~np.isnan(errors)]
    return np.quantile(seen, levels) if seen.size else np.zeros(len(levels))


def _score(stream: str, name: str, actual: Floats, predicted: Floats, scale: float, levels: Sequence[float]) -> Score:
    """Origins and leads where a naive forecast has nothing to say count for no one's loss but its own."""
    actual = np.where(np.isnan(predicted).any(axis=2), np.nan, actual)
    median = predicted[..., int(np.argmin(np.abs(np.array(levels) - 0.5)))]
    loss = pinball_loss(actual, predicted, np.array(levels))
    return Score(
        stream, name, len(actual),
        sql=2 * loss / scale if scale > 0 else float("nan"), mase=mase(actual, median, scale),
        smape=smape(actual, median), coverage=coverage(actual, predicted[..., 0], predicted[..., -1]),
        crossing=crossing(predicted),
    )  # fmt: skip


def _means(scores: Sequence[Score]) -> list[Score]:
    means = []
    for name in dict.fromkeys(s.forecaster for s in scores):
        rows = [s for s in scores if s.forecaster == name]
        columns = {c: [getattr(r, c) for r in rows] for c in ("sql", "mase", "smape", "coverage", "crossing")}
        known = {c: [v for v in values if v == v] for c, values in columns.items()}
        mean = {c: float(np.mean(v)) if v else float("nan") for c, v in known.items()}
        means.append(Score(MEAN, name, sum(r.forecasts for r in rows), **mean))
    return means
