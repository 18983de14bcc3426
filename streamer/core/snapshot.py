"""A stream's state as one record of the changelog, and back.

    offset  bytes  field
         0      2  "TC"
         2      1  format version, 1
         3     32  fingerprint of the model, SHA-256
        35      8  last slot        ┐
        43      8  age              │ int64, little-endian
        51      8  covers           ┘
        59      1  number of static codes, then 8 bytes each
         …      1  number of sections, then each: name (1 byte of length, UTF-8), element type (likewise),
                   4 bytes of size, the bytes in C order, little-endian
      last      4  CRC-32 of all before

All snapshots of one model have one length and differ only in a few columns, so a batch of them is written and read
as one matrix of bytes. The names are there for readers to come: one that knows more sections reads older records too.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from streamer.core.contract import Array, StateSpec
from streamer.core.timegrid import Ints

MAGIC, VERSION = b"TC", 1
HEADER = struct.Struct("<2sB32s")
CHECKSUM_BYTES = 4
NUMBERS = 3  # last slot, age, covers


class Kind(Enum):
    """What a changelog record's value is to a model."""

    OWN = "own"
    FOREIGN = "foreign"  # of another model, or another version of the format
    CORRUPT = "corrupt"


Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Snapshots:
    """n streams' states, as columns.

    last_slot, age, covers  (n,)    the stream's last slot, steps since it was fresh, and the input offset below
                                    which every event of the stream is included
    codes                   (n, C)  static codes
    states                  (n, …)  one per state tensor
    """

    last_slot: Ints
    age: Ints
    covers: Ints
    codes: Ints
    states: list[Array]


class SnapshotFormat:
    """Snapshots of one model: its states' shapes and its fingerprint (hex) fix every byte but the columns."""

    def __init__(self, fingerprint: str, states: Sequence[StateSpec], categories: int) -> None:
        self._states = list(states)
        self._categories = categories
        prefix = HEADER.pack(MAGIC, VERSION, bytes.fromhex(fingerprint))
        numbers = len(prefix)
        codes = numbers + 8 * NUMBERS + 1
        template = bytearray(prefix + bytes(8 * NUMBERS) + bytes([categories]) + bytes(8 * categories))
        template.append(len(states))
        self._sections: list[slice] = []
        for state in states:
            size = state.dtype.itemsize * int(np.prod(state.shape))
            for text in (state.name.encode(), state.dtype.str.encode()):
                template += bytes([len(text)]) + text
            template += struct.pack("<I", size)
            self._sections.append(slice(len(template), len(template) + size))
            template += bytes(size)
        self._numbers = slice(numbers, numbers + 8 * NUMBERS)
        self._codes = slice(codes, codes + 8 * categories)
        self._prefix = prefix
        self._template = np.frombuffer(bytes(template), np.uint8)
        self.bytes_per_snapshot = len(template) + CHECKSUM_BYTES

    def encode(self, snapshots: Snapshots) -> list[bytes]:
        """One record value per stream."""
        n = len(snapshots.last_slot)
        if not n:
            return []
        matrix = np.tile(self._template, (n, 1))
        numbers = np.stack((snapshots.last_slot, snapshots.age, snapshots.covers), axis=1)
        matrix[:, self._numbers] = _as_bytes(numbers.astype("<i8"), n)
        matrix[:, self._codes] = _as_bytes(snapshots.codes.astype("<i8"), n)
        for columns, state in zip(self._sections, snapshots.states, strict=True):
            matrix[:, columns] = _as_bytes(state, n)
        rows = matrix.tobytes()
        size = matrix.shape[1]
        bodies = [rows[at : at + size] for at in range(0, n * size, size)]
        return [body + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "little") for body in bodies]

    def decode(self, values: Sequence[bytes]) -> tuple[Snapshots, list[Kind]]:
        """The columns of the values that are this model's own, and what each value is."""
        kinds = [self._kind(value) for value in values]
        own = [value[:-CHECKSUM_BYTES] for value, kind in zip(values, kinds, strict=True) if kind is Kind.OWN]
        n = len(own)
        matrix = np.frombuffer(b"".join(own), np.uint8).reshape(n, len(self._template))
        numbers = _as_type(matrix[:, self._numbers], "<i8", (NUMBERS,)).astype(np.int64)
        codes = _as_type(matrix[:, self._codes], "<i8", (self._categories,)).astype(np.int64)
        states = [
            _as_type(matrix[:, columns], state.dtype.str, state.shape)
            for columns, state in zip(self._sections, self._states, strict=True)
        ]
        return Snapshots(numbers[:, 0], numbers[:, 1], numbers[:, 2], codes, states), kinds

    def _kind(self, value: bytes) -> Kind:
        if len(value) < HEADER.size + CHECKSUM_BYTES or not value.startswith(MAGIC):
            return Kind.CORRUPT
        body, checksum = value[:-CHECKSUM_BYTES], int.from_bytes(value[-CHECKSUM_BYTES:], "little")
        if zlib.crc32(body) != checksum:
            return Kind.CORRUPT
        if not value.startswith(self._prefix):
            return Kind.FOREIGN
        return Kind.OWN if len(body) == len(self._template) else Kind.CORRUPT


def _as_bytes(array: Array, n: int) -> Bytes:
    """(n, …) of any type as (n, bytes)."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return plain.reshape(n, -1).view(np.uint8) if plain.size else np.empty((n, 0), np.uint8)


def _as_type(columns: Bytes, dtype: str, shape: tuple[int, ...]) -> Array:
    """(n, bytes) as (n, *shape) of a little-endian type, writable."""
    n = len(columns)
    return np.frombuffer(columns.tobytes(), dtype).reshape(n, *shape).copy()
