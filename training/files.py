"""Files of tidy data: parquet, CSV or JSON lines in, a row per event: stream, ts, value (null is missing), and more."""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from glob import escape, glob
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from streamer.core.fields import MAX_TS
from streamer.errors import ConfigError
from training.config import Data

SCANS: dict[str, Callable[[Any], pl.LazyFrame]] = {
    "parquet": pl.scan_parquet,
    "csv": partial(pl.scan_csv, infer_schema_length=None),
    "jsonl": partial(pl.scan_ndjson, infer_schema_length=None),
    "ndjson": partial(pl.scan_ndjson, infer_schema_length=None),
}


FINER = {"microseconds": 1_000, "nanoseconds": 1_000_000}  # per millisecond


def read_events(path: str | Path, columns: Data) -> pl.DataFrame:
    """The events of a file, a folder, or all that a pattern matches, sorted by ts, those of one time in file order.

    Columns stream, ts (epoch ms), value, and the covariates and categories asked for.
    Raises ConfigError for a file or column that cannot be used.
    """
    return collected(scan_events(path, columns), path, columns).sort("ts", maintain_order=True)


def scan_events(path: str | Path, columns: Data) -> pl.LazyFrame:
    """The same, not yet read, in the order of the files (by name) and rows."""
    return pl.concat([_scan_file(file, columns) for file in files_of(path)], how="vertical_relaxed")


def files_of(path: str | Path) -> list[Path]:
    """The file that a path names, those of a folder, or those that a pattern (`*`, `?`, `[…]`) matches, by name.

    Raises ConfigError where a folder or pattern has none.
    """
    place = Path(path)
    if place.is_dir():
        found = sorted(file for file in place.iterdir() if _kind(file) in SCANS)
        if not found:
            raise ConfigError(f"{path}: a folder without a file that ends in .parquet, .csv or .jsonl; name another")
        return found
    if place.exists() or not set("*?[") & set(str(path)):
        return [place]
    found = sorted(map(Path, glob(str(path), recursive=True)))  # noqa: PTH207, a pattern may be absolute
    if not found:
        raise ConfigError(f"{path}: matches no file; name files of tidy data")
    return found


def event_lines(path: str | Path, columns: Data) -> Iterator[bytes]:
    """The file's events as the JSON lines `streamer replay` reads, in time order; null covariates are left out."""
    for row in read_events(path, columns).iter_rows(named=True):
        event: dict[str, object] = {"stream": row["stream"], "ts": row["ts"], "value": row["value"]}
        for kind in ("covariates", "static"):
            names = getattr(columns, kind)
            if given := {name: row[name] for name in names if row[name] is not None}:
                event[kind] = given
        yield orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)


def collected(events: pl.LazyFrame, path: str | Path, columns: Data) -> pl.DataFrame:
    """The events that were scanned. Raises ConfigError where they cannot be used."""
    try:
        frame = events.collect()
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{path}: holds what is not expected: {str(error).splitlines()[0]}") from None
    if frame["stream"].null_count() or frame["ts"].null_count():
        raise ConfigError(f"{path}: every row needs a {columns.stream!r} and a {columns.ts!r}, found a null one")
    if not len(frame):
        raise ConfigError(f"{path}: holds no events")
    _refuse_infinite(frame, path, columns)
    _refuse_far_times(frame, path, columns)
    return frame


def streams_of(events: pl.LazyFrame, path: str | Path, columns: Data) -> pl.DataFrame:
    """Columns stream and len, its number of events, in order of their names. Raises ConfigError for one without."""
    try:
        sizes = events.group_by("stream").len().sort("stream").collect(engine="streaming")
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{path}: holds what is not expected: {str(error).splitlines()[0]}") from None
    if sizes["stream"].null_count():
        raise ConfigError(f"{path}: every row needs a {columns.stream!r}, found a null one")
    return sizes


def data_digest(path: str | Path) -> str:
    """`sha256:…` of the bytes of all files."""
    digest = hashlib.sha256()
    for file in files_of(path):
        with file.open("rb") as content:
            while piece := content.read(1 << 20):
                digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def _refuse_infinite(frame: pl.DataFrame, path: str | Path, columns: Data) -> None:
    """Raises ConfigError where a number is infinite: the daemon rejects such an event too."""
    names = {"value": columns.value, **{name: name for name in columns.covariates}}
    for name, column in names.items():
        if len(rows := frame[name].is_infinite().fill_null(False).arg_true()):
            raise ConfigError(
                f"{path}: column {column!r} is {frame[name][rows[0]]} in row {rows[0] + 1}, infinite in {len(rows)} "
                "rows, expected finite numbers, null where one is missing; correct them, or write null"
            )


def _refuse_far_times(frame: pl.DataFrame, path: str | Path, columns: Data) -> None:
    """Raises ConfigError where a time is one that the daemon rejects, as those in finer units than milliseconds are."""
    if len(rows := (~frame["ts"].is_between(0, MAX_TS)).arg_true()):
        found = int(frame["ts"][rows[0]])
        unit = next((name for name, ratio in FINER.items() if 0 <= found // ratio <= MAX_TS), None)
        guess = f"are they {unit}? divide by {FINER[unit]:,}" if unit else "correct them"
        raise ConfigError(
            f"{path}: column {columns.ts!r} is {found} in row {rows[0] + 1}, and so in {len(rows)} rows, expected "
            f"epoch milliseconds of the years 1970 to 9999; {guess}"
        )


def _scan_file(path: Path, columns: Data) -> pl.LazyFrame:
    frame = _scan(path)
    schema = frame.collect_schema()
    wanted = [columns.stream, columns.ts, columns.value, *columns.covariates, *columns.static]
    if missing := [c for c in wanted if c not in schema]:
        separated = " (expected columns separated by commas)" if len(schema) == 1 and "csv" in path.suffixes[0] else ""
        found = ", ".join(schema) + separated
        raise ConfigError(f"{path}: no column {missing[0]!r}, found {found}; name it (`data` in the settings)")
    numbers = [pl.col(c).cast(pl.Float64).fill_nan(None) for c in (columns.value, *columns.covariates)]
    words = [pl.col(c).cast(pl.String) for c in columns.static]
    return frame.select(
        pl.col(columns.stream).cast(pl.String).alias("stream"), _epoch_ms(schema, columns.ts).alias("ts"),
        numbers[0].alias("value"), *numbers[1:], *words,
    )  # fmt: skip


def _kind(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[-1]


def _scan(path: Path) -> pl.LazyFrame:
    kind = _kind(path)
    if kind not in SCANS:
        raise ConfigError(f"{path}: expected a name ending in .parquet, .csv or .jsonl, each perhaps with .gz")
    try:
        with path.open("rb") as file:  # polars' own message names no reason
            content = gzip.decompress(file.read()) if path.suffix == ".gz" else escape(str(path))  # polars has patterns
        frame = SCANS[kind](content)
        frame.collect_schema()
    except (OSError, EOFError, zlib.error) as error:  # the last two from a packed file that is cut off or damaged
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read: {reason}; name a file of tidy data") from None
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{path}: not the {kind} its name says: {str(error).splitlines()[0]}") from None
    return frame


def _epoch_ms(schema: pl.Schema, name: str) -> pl.Expr:
    kind = schema[name]
    if kind == pl.String:
        return pl.col(name).str.to_datetime(time_zone="UTC").dt.epoch("ms")
    return pl.col(name).dt.epoch("ms") if kind.is_temporal() else pl.col(name).cast(pl.Int64)
