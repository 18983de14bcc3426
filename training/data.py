"""Tidy data in, series on the model's time grid out.

On a regular grid an event's slot is floor((ts − offset) / step), the first event of a slot counts, and a slot
without one is missing, exactly as the daemon places events.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from streamer.errors import ConfigError
from training.config import DAY_MS, WEEK_MS, Border, Config, Split
from training.files import collected, scan_events, streams_of

ROWS_AT_ONCE = 5_000_000  # events placed together where series go to disk
UNEVEN = 0.02  # of the usual step: more is another step
MOSTLY = 0.95  # share of usual steps from which a stream has a period in steps
MAX_SPARSENESS = 1000  # grid steps per event; beyond it the step is wrong, and memory at stake
FEW_EVENTS = 100  # tell nothing about the step: a stream may begin, and be heard of again after years


@dataclass(frozen=True)
class Tally:
    """What the placing of a stream's events on its grid noticed.

    duplicates     events beyond the first of a slot
    unordered      rows earlier than the row before them, in the order of the file
    usual_step_ms  median distance of two events
    step_ms        the grid's; None per event
    """

    duplicates: int = 0
    unordered: int = 0
    usual_step_ms: float = 0.0
    step_ms: int | None = None


@dataclass(frozen=True)
class Series:
    """One stream on the grid.

    time      (n,)      int64: UTC epoch milliseconds of each step
    value     (n, 1+P)  float64: target, then covariates; 0 where missing
    observed  (n, 1+P)  float32: 1 observed, 0 missing
    static    (C,)      the stream's category values
    """

    stream: str
    time: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    observed: npt.NDArray[np.float32]
    static: tuple[str, ...] = ()
    tally: Tally = Tally()

    def __len__(self) -> int:
        return len(self.time)

    @property
    def target(self) -> npt.NDArray[np.float64]:
        """The target (n,), NaN where missing."""
        return np.where(self.observed[:, 0] > 0, self.value[:, 0], np.nan)


@dataclass(frozen=True)
class Parts:
    """A series' borders as step indices: train [0, train), validation [train, validation), test [validation, end)."""

    train: int
    validation: int
    end: int


def load_series(path: str | Path, config: Config) -> list[Series]:
    """The streams on the config's grid, in order of their names. Raises ConfigError.

    With `data.cache` they lie on disk and are read where they are touched, so they may be larger than the
    memory; streams are placed by groups, so that only one group's events need to fit.
    """
    events = scan_events(path, config.data)
    if config.data.cache is None:
        return _placed(collected(events, path, config.data), config)
    sizes = streams_of(events, path, config.data)
    groups = (sizes["len"].cum_sum() // ROWS_AT_ONCE).alias("group")
    series: list[Series] = []
    for (number,), streams in sizes.with_columns(groups).group_by("group", maintain_order=True):
        chosen = events.filter(pl.col("stream").is_in(streams["stream"].implode()))
        folder = Path(config.data.cache) / str(number)
        series += on_disk(_placed(collected(chosen, path, config.data), config), folder)
    return series


def on_disk(series: Sequence[Series], folder: Path) -> list[Series]:
    """The same series, their numbers in files of `folder` that the system reads as they are needed.

    A file of that name is replaced, not written over: another process, or a fit here, may be reading it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    borders = np.cumsum([0, *map(len, series)])
    columns: dict[str, npt.NDArray[Any]] = {}
    for name in ("time", "value", "observed"):
        with NamedTemporaryFile(dir=folder, suffix=".partial", delete=False) as partial:
            np.save(partial, np.concatenate([getattr(s, name) for s in series]))
        columns[name] = np.load(partial.name, mmap_mode="r")
        Path(partial.name).replace(folder / f"{name}.npy")
    time, value, observed = columns["time"], columns["value"], columns["observed"]
    return [
        replace(s, time=time[a:b], value=value[a:b], observed=observed[a:b])
        for s, a, b in zip(series, borders[:-1], borders[1:], strict=True)
    ]


def parts(series: Series, split: Split) -> Parts:
    """Where a series' parts end; one that a border does not reach has less, or nothing, of a part.

    The first step is never in the test part alone, for a forecast needs a step before it.
    Raises ConfigError where the borders are out of order.
    """
    size = len(series)
    end = min(_border(split.end, series, size), size) if split.end is not None else size
    train, validation = (_border(b, series, end) for b in (split.train_end, split.validation_end))
    if train > validation:
        raise ConfigError(
            f"split: expected train_end ≤ validation_end, found {split.train_end} and {split.validation_end}, which "
            f"are {train} and {validation} of the {size} steps of {series.stream!r}"
        )
    end = max(end, 1)
    train, validation = min(max(train, 0), end), min(max(validation, 1), end)
    begin, last = (validation + (end - validation) * i // split.folds for i in (split.fold, split.fold + 1))
    return Parts(max(train + begin - validation, 0), begin, last)


def own_season(series: Series, known: int | None = None) -> int:
    """Steps of a day by the stream's own times, else of a week; 1 where its steps are uneven or fit neither.

    known  first steps that may be looked at; all by default
    """
    time = series.time[:known]
    steps = np.diff(time)
    usual = float(np.median(steps)) if len(steps) else 0.0
    if usual <= 0 or (np.abs(steps - usual) <= UNEVEN * usual).mean() < MOSTLY:
        return 1
    for period in (DAY_MS, WEEK_MS):
        if 1 < (season := round(period / usual)) < len(time) / 3:
            return season
    return 1


def vocabulary(series: Sequence[Series], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Each category's values in the data, sorted; a value's code is its position plus 1."""
    return {name: tuple(sorted({s.static[i] for s in series} - {""})) for i, name in enumerate(names)}


def static_codes(series: Sequence[Series], words: dict[str, tuple[str, ...]]) -> npt.NDArray[np.int64]:
    """Codes (B, C) of each series' categories, 0 where unknown."""
    tables = [{word: i + 1 for i, word in enumerate(values)} for values in words.values()]
    codes = [[table.get(word, 0) for table, word in zip(tables, s.static, strict=True)] for s in series]
    return np.array(codes, np.int64).reshape(len(series), len(tables))


def _placed(events: pl.DataFrame, config: Config) -> list[Series]:
    by_stream = events.partition_by("stream", maintain_order=True, as_dict=True)
    return [_place(str(key[0]), rows, config) for key, rows in sorted(by_stream.items(), key=lambda item: item[0])]


def _place(stream: str, rows: pl.DataFrame, config: Config) -> Series:
    """One stream's events on the grid."""
    unordered = int((np.diff(rows["ts"].to_numpy()) < 0).sum())
    rows = rows.sort("ts", maintain_order=True)
    time = rows["ts"].to_numpy()
    if config.step_ms is None:
        slot, step, offset = time, 1, 0
    else:
        slot, step, offset = (time - config.offset_ms) // config.step_ms, config.step_ms, config.offset_ms
    unique, first = np.unique(slot, return_index=True)
    place = unique - unique[0] if config.step_ms is not None else np.arange(len(unique))
    steps = int(place[-1]) + 1
    if steps > MAX_SPARSENESS * max(len(unique), FEW_EVENTS):
        raise ConfigError(
            f"step_ms: {config.step_ms} puts the {len(unique)} events of {stream!r} on {steps} steps; "
            "set the step of the data"
        )
    numbers = rows.select("value", *config.data.covariates).to_numpy()[first].astype(float)
    known = ~np.isnan(numbers)
    value, observed = np.zeros((steps, numbers.shape[1])), np.zeros((steps, numbers.shape[1]), np.float32)
    value[place], observed[place] = np.where(known, numbers, 0), known
    grid = unique if config.step_ms is None else unique[0] + np.arange(steps)
    words = tuple(str(rows[name].drop_nulls().first() or "") for name in config.data.static)
    usual = float(np.median(np.diff(time))) if len(time) > 1 else 0.0
    tally = Tally(len(time) - len(unique), unordered, usual, config.step_ms)
    return Series(stream, cast("npt.NDArray[np.int64]", grid * step + offset), value, observed, words, tally)


def _border(border: Border, series: Series, end: int) -> int:
    if isinstance(border, str):
        try:
            moment = datetime.fromisoformat(border)
        except ValueError:
            raise ConfigError(f"split: expected a time in ISO 8601, found {border!r}") from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(np.searchsorted(series.time[:end], int(moment.timestamp() * 1000)))
    if isinstance(border, float):
        if not 0 < border <= 1:
            raise ConfigError(f"split: a share must be in (0, 1], found {border}")
        return int(border * end)
    return border if border >= 0 else len(series) + border
