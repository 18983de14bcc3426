"""Event lines from a file or standard input, forecast lines to a file or standard output."""

import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, cast

from streamer.core.events import Partition, Records
from streamer.errors import ConfigError

STANDARD = "-"
CHUNK_BYTES = 1 << 20  # some 15,000 events


def open_input(path: str) -> AbstractContextManager[BinaryIO]:
    """The bytes of a file, unpacked if it is named .gz, or of standard input for "-". Raises ConfigError."""
    if path == STANDARD:
        return nullcontext(sys.stdin.buffer)
    try:
        return cast(BinaryIO, gzip.open(path)) if path.endswith(".gz") else Path(path).open("rb")
    except OSError as error:
        raise ConfigError(f"--input: cannot read {path!r}: {error.strerror}; name a file of event lines") from None


def open_output(path: str, source: str) -> AbstractContextManager[BinaryIO]:
    """A new file to write to, or standard output for "-". Raises ConfigError, also where it is the input or full."""
    if path == STANDARD:
        return _written(sys.stdout.buffer, "standard output: cannot write")
    if source != STANDARD and Path(path).exists() and Path(path).samefile(source):
        raise ConfigError(f"--output: {path!r} is the input too and would be lost; name another file")
    try:
        return _written(Path(path).open("wb"), f"--output: cannot write {path!r}")
    except OSError as error:
        raise ConfigError(f"--output: cannot write {path!r}: {error.strerror}; name another file") from None


@contextmanager
def _written(sink: BinaryIO, problem: str) -> Iterator[BinaryIO]:
    """The sink, closed in the end unless it is standard output. Raises ConfigError where it takes no more."""
    standard = sink is sys.stdout.buffer
    try:
        with nullcontext(sink) if standard else sink:
            yield sink
            sink.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if standard:  # what is left in its buffer can go nowhere, and would be said again at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sink.fileno())
        raise ConfigError(f"{problem} to its end: {error.strerror}; name another file") from None


def read_records(source: BinaryIO, name: str, max_record_bytes: int) -> Iterator[Records]:
    """Lines as records of partition 0 of a topic called `name`; the offset is the line's number from 0.

    Yields what a read returns, so lines that trickle in are answered as they come. Of a line longer than
    max_record_bytes only the beginning is kept: enough to be refused as too large.

    Raises ConfigError where the source cannot be read to its end.
    """
    partition = Partition(name, 0)
    offset, rest = 0, b""
    while chunk := _read(source, name):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()[: max_record_bytes + 1]
        if lines:
            yield _records(partition, offset, lines)
            offset += len(lines)
    if rest:
        yield _records(partition, offset, [rest])


def _read(source: BinaryIO, name: str) -> bytes:
    try:
        chunk: bytes = source.read1(CHUNK_BYTES)  # type: ignore[attr-defined]  # every file opened here has it
    except (OSError, EOFError, zlib.error) as error:  # of a packed file: not gzip, cut off, damaged
        raise ConfigError(f"--input: cannot read {name!r} to its end: {error}; name a whole file") from None
    return chunk


def _records(partition: Partition, offset: int, lines: list[bytes]) -> Records:
    return Records(partition, range(offset, offset + len(lines)), None, [None] * len(lines), lines)
