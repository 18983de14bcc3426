"""Tidy data in, series on the model's time grid out.

A file holds a row per event: stream, ts, value (null is missing), and any covariates and categories. On a
regular grid an event's slot is floor((ts − offset) / step), the first event of a slot counts, and a slot
without one is missing, exactly as the daemon places events.
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from streamer.errors import ConfigError
from training.config import Border, Config, Data, Split

MAX_SPARSENESS = 1000  # grid steps per event; beyond it the step is wrong, and memory at stake


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


def read_events(path: str | Path, columns: Data) -> pl.DataFrame:
    """The file's events as columns stream, ts (epoch ms), value, and the covariates and categories asked for.

    Sorted by ts, events of one time in file order. Raises ConfigError for a file or column that cannot be used.
    """
    frame = _read(Path(path))
    wanted = [columns.stream, columns.ts, columns.value, *columns.covariates, *columns.static]
    if missing := [c for c in wanted if c not in frame.columns]:
        raise ConfigError(f"{path}: no column {missing[0]!r}, found {', '.join(frame.columns)}; name it under `data`")
    numbers = [pl.col(c).cast(pl.Float64).fill_nan(None) for c in (columns.value, *columns.covariates)]
    words = [pl.col(c).cast(pl.String) for c in columns.static]
    try:
        frame = frame.select(
            pl.col(columns.stream).cast(pl.String).alias("stream"), _epoch_ms(frame, columns.ts).alias("ts"),
            numbers[0].alias("value"), *numbers[1:], *words,
        )  # fmt: skip
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{path}: a column has the wrong type: {str(error).splitlines()[0]}") from None
    if frame["stream"].null_count() or frame["ts"].null_count():
        raise ConfigError(f"{path}: every row needs a {columns.stream!r} and a {columns.ts!r}, found a null one")
    if not len(frame):
        raise ConfigError(f"{path}: holds no events")
    _refuse_infinite(frame, path, columns)
    return frame.sort("ts", maintain_order=True)


def _refuse_infinite(frame: pl.DataFrame, path: str | Path, columns: Data) -> None:
    """Raises ConfigError where a number is infinite: the daemon rejects such an event too."""
    names = {"value": columns.value, **{name: name for name in columns.covariates}}
    for name, column in names.items():
        if len(rows := frame[name].is_infinite().fill_null(False).arg_true()):
            raise ConfigError(
                f"{path}: column {column!r} is {frame[name][rows[0]]} in row {rows[0] + 1}, infinite in {len(rows)} "
                "rows, expected finite numbers, null where one is missing; correct them, or write null"
            )


def event_lines(path: str | Path, columns: Data) -> Iterator[bytes]:
    """The file's events as the JSON lines `streamer replay` reads, in time order; null covariates are left out."""
    for row in read_events(path, columns).iter_rows(named=True):
        event: dict[str, object] = {"stream": row["stream"], "ts": row["ts"], "value": row["value"]}
        for kind in ("covariates", "static"):
            names = getattr(columns, kind)
            if given := {name: row[name] for name in names if row[name] is not None}:
                event[kind] = given
        yield orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)


def load_series(path: str | Path, config: Config) -> list[Series]:
    """The file's streams on the config's grid, in order of their names. Raises ConfigError."""
    events = read_events(path, config.data)
    by_stream = events.partition_by("stream", maintain_order=True, as_dict=True)
    return [_place(str(key[0]), rows, config) for key, rows in sorted(by_stream.items(), key=lambda item: item[0])]


def data_digest(path: str | Path) -> str:
    """`sha256:…` of the file's bytes."""
    return "sha256:" + hashlib.sha256(Path(path).read_bytes()).hexdigest()


def parts(series: Series, split: Split) -> Parts:
    """Where a series' parts end. Raises ConfigError where they are out of order."""
    end = _border(split.end, series, len(series)) if split.end is not None else len(series)
    train, validation = (_border(b, series, end) for b in (split.train_end, split.validation_end))
    if not 0 < train <= validation <= end <= len(series):
        raise ConfigError(
            f"split: expected 0 < train_end ≤ validation_end ≤ end within a stream, found {train}, {validation}, {end} "
            f"steps for {series.stream!r} with {len(series)}"
        )
    return Parts(train, validation, end)


def vocabulary(series: Sequence[Series], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Each category's values in the data, sorted; a value's code is its position plus 1."""
    return {name: tuple(sorted({s.static[i] for s in series} - {""})) for i, name in enumerate(names)}


def static_codes(series: Sequence[Series], words: dict[str, tuple[str, ...]]) -> npt.NDArray[np.int64]:
    """Codes (B, C) of each series' categories, 0 where unknown."""
    tables = [{word: i + 1 for i, word in enumerate(values)} for values in words.values()]
    codes = [[table.get(word, 0) for table, word in zip(tables, s.static, strict=True)] for s in series]
    return np.array(codes, np.int64).reshape(len(series), len(tables))


def _read(path: Path) -> pl.DataFrame:
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1]
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if kind == "parquet":
            return pl.read_parquet(content)
        if kind == "csv":
            return pl.read_csv(content, infer_schema_length=None)
        if kind in ("jsonl", "ndjson"):
            return pl.read_ndjson(content, infer_schema_length=None)
    except (OSError, EOFError, zlib.error) as error:  # the last two from a packed file that is cut off or damaged
        raise ConfigError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}; name a file of tidy data"
        ) from None
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{path}: not the {kind} its name says: {str(error).splitlines()[0]}") from None
    raise ConfigError(
        f"{path}: expected a name ending in .parquet, .csv or .jsonl (also with .gz), found {path.name!r}"
    )


def _epoch_ms(frame: pl.DataFrame, name: str) -> pl.Expr:
    kind = frame.schema[name]
    if kind == pl.String:
        return pl.col(name).str.to_datetime(time_zone="UTC").dt.epoch("ms")
    return pl.col(name).dt.epoch("ms") if kind.is_temporal() else pl.col(name).cast(pl.Int64)


def _place(stream: str, rows: pl.DataFrame, config: Config) -> Series:
    """One stream's events, sorted by time, on the grid."""
    time = rows["ts"].to_numpy()
    if config.step_ms is None:
        slot, step, offset = time, 1, 0
    else:
        slot, step, offset = (time - config.offset_ms) // config.step_ms, config.step_ms, config.offset_ms
    unique, first = np.unique(slot, return_index=True)
    place = unique - unique[0] if config.step_ms is not None else np.arange(len(unique))
    steps = int(place[-1]) + 1
    if steps > MAX_SPARSENESS * len(unique):
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
    return Series(stream, cast("npt.NDArray[np.int64]", grid * step + offset), value, observed, words)


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
