"""Forecasts written by a small C library, several times as fast as by Python; where it was not built, Python's way.

The library is made by `hatch_build.py` when the package is installed on a machine with a C compiler. Python's own
interpreter lock is released while it writes, so Kafka's threads go on.
"""

import ctypes
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from streamer.core.rounding import IN_FULL
from streamer.core.wire import Frame, Lines, Writer, write_lines

VERSION = 2  # of the C source that this module calls; a library made from another one is as good as none
LIBRARY = Path(__file__).with_name("libforecast_text.so")
POINTER, SIZE = ctypes.c_void_p, ctypes.c_int64


def forecast_writer(library: Path = LIBRARY) -> Writer:
    """The fastest writer there is on this machine."""
    try:
        return NativeWriter(library)
    except OSError:
        return write_lines


class NativeWriter:
    """`streamer.core.wire.Writer` over the library. Raises OSError where it is not there, or of another version."""

    def __init__(self, library: Path = LIBRARY) -> None:
        loaded = ctypes.CDLL(str(library))
        if not hasattr(loaded, "tidecast_version") or loaded.tidecast_version() != VERSION:
            raise OSError(f"{library} was made from another version of its source, expected {VERSION}; install again")
        self._room = loaded.tidecast_room
        self._room.argtypes, self._room.restype = [SIZE] * 5, SIZE
        self._write = loaded.tidecast_write
        self._write.argtypes, self._write.restype = [SIZE] * 3 + [POINTER] * 10, SIZE
        self._buffer = np.empty(0, np.uint8)  # kept: its pages are then there already

    def __call__(self, frame: Frame, lines: Lines) -> Sequence[bytes]:
        """Each forecast's JSON."""
        n, leads, levels = lines.quantiles.shape
        texts = (frame.head, frame.after_offset, frame.after_stream, frame.cold, frame.warm, *frame.levels, frame.tail)
        ends = np.cumsum([len(text) for text in texts])
        text = b"".join(texts)
        room = self._room(n, leads, levels, len(lines.names), len(text))
        if len(self._buffer) < room:
            self._buffer = np.empty(room, np.uint8)
        columns = [lines.origin, lines.is_warm, lines.quantiles, lines.places]
        kept = [np.ascontiguousarray(column) for column in (lines.offsets, *columns)]
        offsets, *others = (column.ctypes.data for column in kept)
        stops = np.zeros(n + 1, np.int64)
        out = (self._buffer.ctypes.data, stops[1:].ctypes.data)
        written = self._write(n, leads, levels, offsets, lines.names, *others, text, ends.ctypes.data, *out)
        whole, edges = self._buffer[:written].tobytes(), stops.tolist()
        made = [whole[begin:end] for begin, end in pairwise(edges)]  # half the time of `split`, which reads every byte
        in_full = lines.places == IN_FULL
        if in_full.any():
            for at, line in zip(np.flatnonzero(in_full).tolist(), write_lines(frame, lines.only(in_full)), strict=True):
                made[at] = line
        return made
