"""Rolling-origin backtest: forecast from every origin of the test part, beside the two naive forecasts.

The model's file is advanced by onnxruntime, as the daemon does, each stream from its first step. A naive
forecast's quantiles are its value plus the quantiles of its own errors before the test part.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from streamer.core.contract import Model
from streamer.core.scoring import seasonal_naive_error
from streamer.errors import ConfigError
from training.config import Config, Split
from training.data import Series, own_season, parts
from training.fit import fit
from training.naive import naive
from training.questions import Matrix, ask, summed
from training.scores import MEAN, Outcome, Score, means, scored
from training.stepping import ROWS, TorchModel, forecasts, targets

MODEL = "model"
HELD = 50_000_000  # numbers of forecasts in memory at once, 200 MB; one stream's own may be more
COLUMNS = ("SQL", "MASE", "sMAPE %", "in {} %", "width", "skill %")  # short: a terminal has 80 columns


@dataclass(frozen=True)
class Backtest:
    """Scores of each stream and, under the stream `mean`, of all; over all leads (lead 0) and at each.

    levels    (Q,)  the model's
    season    steps, of the seasonal naive forecast and of the scale; None is each stream's own
    matrices  confusion matrices of the questions in `training.questions`, summed over the streams
    split     where the test part began, whose scores these are
    """

    levels: tuple[float, ...]
    season: int | None
    scores: tuple[Score, ...]
    matrices: tuple[Matrix, ...]
    split: Split

    def of(self, forecaster: str, stream: str = MEAN, lead: int = 0) -> Score:
        """One score. Raises KeyError if there is none."""
        for score in self.scores:
            if (score.forecaster, score.stream, score.lead) == (forecaster, stream, lead):
                return score
        raise KeyError((forecaster, stream, lead))

    @property
    def forecasters(self) -> tuple[str, ...]:
        """The model first, then the naive ones."""
        return tuple(dict.fromkeys(s.forecaster for s in self.scores))

    def skill(self, score: Score) -> float:
        """Share of the better naive forecast's loss (of this stream and lead) that is saved; below 0 it is worse.

        Against a naive forecast without any loss, as where a stream stands still, it is 0 or −∞; NaN where unknown.
        """
        losses = [self.of(f, score.stream, score.lead).sql for f in self.forecasters if f != MODEL]
        better = min((loss for loss in losses if not math.isnan(loss)), default=math.nan)
        if better == 0:
            return 0.0 if score.sql == 0 else -math.inf
        return 1 - score.sql / better

    def summary(self) -> dict[str, float]:
        """The means a manifest carries, plain numbers."""
        out: dict[str, float] = {}
        for forecaster in self.forecasters:
            prefix = "" if forecaster == MODEL else forecaster.replace(" ", "_") + "_"
            score = self.of(forecaster)
            for name in ("sql", "mase", "smape", "coverage"):
                if (value := getattr(score, name)) == value:
                    out[prefix + name] = round(value, 4)
        return out

    def as_json(self) -> dict[str, Any]:
        """Plain values, NaN as None."""
        return {
            "levels": list(self.levels), "season": self.season, "scores": [_plain(asdict(s)) for s in self.scores],
            "matrices": [asdict(m) for m in self.matrices], "split": self.split.model_dump(mode="json"),
        }  # fmt: skip

    def table(self, per_stream: bool = False, per_lead: bool = False) -> Table:
        """A table for the terminal: the means, and a row per stream or lead where asked for."""
        share = round(100 * (self.levels[-1] - self.levels[0]))
        table = Table(
            title="Backtest, " + (f"season {self.season} steps" if self.season else "each stream's own season"),
            caption=f"in {share} %: share of actuals inside that interval; width: its own, in naive errors; "
            "skill: loss saved of the better naive one",
        )
        named = per_stream or any(s.stream.startswith(f"{MEAN} (") for s in self.scores)
        labels = [*(["stream"] if named else []), *(["lead"] if per_lead else []), "forecaster"]
        for name in labels:
            table.add_column(name, no_wrap=name != "stream", overflow="fold")
        for name in ("origins", *COLUMNS):
            table.add_column(name.format(share), justify="right")
        for s in self.scores:
            if (per_stream or s.stream.startswith(MEAN)) and (s.lead == 0 or (per_lead and s.stream.startswith(MEAN))):
                numbers = (f"{s.sql:.3f}", f"{s.mase:.3f}", f"{s.smape:.2f}", f"{s.coverage:.3f}", f"{s.width:.2f}")
                texts = {"stream": s.stream, "lead": str(s.lead) if s.lead else "all", "forecaster": s.forecaster}
                row = [texts[name] for name in labels]
                table.add_row(*row, f"{s.forecasts:,}", *numbers, f"{100 * self.skill(s):.1f}")
        return table


def backtest(
    model: Model, series: Sequence[Series], split: Split, season: int | None = None, stride: int = 1
) -> Backtest:
    """Score `model`, seasonal naive and last value from every `stride`-th origin of the test part.

    season  steps, of the seasonal naive forecast and of the scale of MASE; by default each stream's own,
            found from its times

    Raises ConfigError where the test part holds no whole forecast.
    """
    scores: list[Score] = []
    matrices: list[Matrix] = []
    for i, outcome in outcomes(model, series, split, season, stride):
        scores += scored(outcome)
        if outcome.forecaster == MODEL:
            matrices += ask(outcome, series[i], parts(series[i], split), stride)
    return Backtest(model.manifest.levels, season, (*scores, *means(scores)), summed(matrices), split)


def cross_validate(
    config: Config, series: Sequence[Series], folds: int, stride: int = 1, console: Console | None = None
) -> Backtest:
    """Cut the test part into `folds` pieces in time order; fit anew before each, and score it.

    Each stream's scores are kept under `stream (fold k)`; the means are over all streams and folds.
    """
    scores: list[Score] = []
    matrices: list[Matrix] = []
    for fold in range(folds):
        split = config.split.model_copy(update={"folds": folds, "fold": fold})
        fitted = fit(config.model_copy(update={"split": split}), series, console)
        result = backtest(TorchModel(fitted.network, fitted.manifest), series, split, stride=stride)
        scores += [replace(s, stream=f"{s.stream} (fold {fold + 1})") for s in result.scores]
        matrices += result.matrices
    own = [s for s in scores if not s.stream.startswith(f"{MEAN} (")]
    return Backtest(config.levels, None, (*scores, *means(own)), summed(matrices), config.split)


def outcomes(
    model: Model, series: Sequence[Series], split: Split, season: int | None = None, stride: int = 1
) -> Iterator[tuple[int, Outcome]]:
    """(index of the series, outcome) of the model and of each naive forecast, stream by stream.

    Raises ConfigError where the test part holds no whole forecast.
    """
    horizon, levels = model.manifest.horizon, model.manifest.levels
    borders = [parts(s, split) for s in series]
    origins = [scored_origins(p.validation, p.end, horizon, stride) for p in borders]
    if not any(map(len, origins)):
        raise ConfigError(f"split: the test part of no stream holds {horizon} steps; move validation_end or end")
    for i, quantiles in _forecasts_by_stream(model, series, origins):
        s, known = series[i], borders[i].validation
        lag = season or own_season(s)
        scale = seasonal_naive_error(s.target[: borders[i].train], lag)
        actual = targets(s, origins[i], horizon)
        yield i, Outcome(s.stream, MODEL, actual, quantiles, levels, scale)
        for name, back in (("seasonal naive", lag), ("last value", 1)):
            yield i, Outcome(s.stream, name, actual, naive(s, origins[i], known, back, horizon, levels), levels, scale)


def scored_origins(begin: int, end: int, horizon: int, stride: int = 1) -> npt.NDArray[np.int64]:
    """Every `stride`-th origin, from the last step before `begin`, whose leads all lie before `end`."""
    return np.arange(begin - 1, end - horizon, stride)


def _forecasts_by_stream(
    model: Model, series: Sequence[Series], origins: Sequence[npt.NDArray[np.int64]]
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """(index of the series, quantiles (n, H, Q) from all its origins); a group of streams is held, not all."""
    for group in _groups(origins, model.manifest.horizon * len(model.manifest.levels)):
        found: dict[int, list[npt.NDArray[np.float32]]] = {}
        asked = [origins[i] for i in group]
        for k, _, quantiles in forecasts(model, [series[i] for i in group], [0] * len(group), asked):
            found.setdefault(group[k], []).append(quantiles)
        yield from ((i, np.concatenate(found.pop(i))) for i in sorted(found))


def _groups(origins: Sequence[npt.NDArray[np.int64]], numbers: int) -> Iterator[list[int]]:
    """Indices of series to forecast together: ROWS at most, and no more than HELD numbers, so many per origin."""
    group: list[int] = []
    held = 0
    for i, asked in enumerate(origins):
        if group and (len(group) == ROWS or held + len(asked) * numbers > HELD):
            yield group
            group, held = [], 0
        group.append(i)
        held += len(asked) * numbers
    yield group


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and value != value else value
