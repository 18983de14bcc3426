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
as one array of records. The names are there for readers to come: one that knows more sections reads older records too.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from streamer.core.contract import Array, StateSpec
from streamer.core.timegrid import Ints

MAGIC, VERSION = b"TC", 1
HEADER = struct.Struct("<2sB32s")
CHECKSUM_BYTES = 4
RESIDUE = 0x2144DF1C  # the CRC-32 of anything with its own CRC-32 behind it, little-endian
NUMBERS = 3  # last slot, age, covers
_PREFIX, _NUMBERS, _CODES = "prefix", "numbers", "codes"  # columns, as are the states by their position


class Kind(Enum):
    """What a changelog record's value is to a model."""

    OWN = "own"
    FOREIGN = "foreign"  # of another model, or another version of the format
    CORRUPT = "corrupt"


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
        prefix = HEADER.pack(MAGIC, VERSION, bytes.fromhex(fingerprint))
        numbers = len(prefix)
        codes = numbers + 8 * NUMBERS + 1
        template = bytearray(prefix + bytes(8 * NUMBERS) + bytes([categories]) + bytes(8 * categories))
        template.append(len(states))
        sections: list[int] = []
        for state in states:
            size = state.dtype.itemsize * int(np.prod(state.shape))
            for text in (state.name.encode(), state.dtype.str.encode()):
                template += bytes([len(text)]) + text
            template += struct.pack("<I", size)
            sections.append(len(template))
            template += bytes(size)
        template += bytes(CHECKSUM_BYTES)
        self._prefix = prefix
        self._template = bytes(template)
        self.bytes_per_snapshot = len(template)
        self._states = [f"state {i}" for i in range(len(states))]
        shapes = [(state.dtype.newbyteorder("<"), state.shape) for state in states]
        self._layout = np.dtype(
            {
                "names": [_PREFIX, _NUMBERS, _CODES, *self._states],
                "formats": [("u1", (len(prefix),)), ("<i8", (NUMBERS,)), ("<i8", (categories,)), *shapes],
                "offsets": [0, numbers, codes, *sections],
                "itemsize": len(template),
            }
        )

    def encode(self, snapshots: Snapshots) -> list[bytes]:
        """One record value per stream."""
        n, size = len(snapshots.last_slot), self.bytes_per_snapshot
        if not n:
            return []
        records = np.frombuffer(bytearray(self._template * n), self._layout)
        records[_NUMBERS] = np.stack((snapshots.last_slot, snapshots.age, snapshots.covers), axis=1)
        records[_CODES] = snapshots.codes
        for name, state in zip(self._states, snapshots.states, strict=True):
            records[name] = state
        rows = records.tobytes()
        bodies = [rows[at : at + size - CHECKSUM_BYTES] for at in range(0, n * size, size)]
        return [body + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "little") for body in bodies]

    def decode(self, values: Sequence[bytes]) -> tuple[Snapshots, list[Kind]]:
        """The columns of the values that are this model's own, and what each value is.

        The states are views into one buffer of all values, not to be written to.
        """
        size = self.bytes_per_snapshot
        # a checksum behind what it is of makes the checksum of both the same for everything
        sound = [len(value) == size and zlib.crc32(value) == RESIDUE for value in values]
        if not all(sound):
            return self._sift(values)
        records = np.frombuffer(b"".join(values), self._layout) if values else np.zeros(0, self._layout)
        if values and (records[_PREFIX] != np.frombuffer(self._prefix, np.uint8)).any():
            return self._sift(values)
        numbers = records[_NUMBERS].astype(np.int64)
        codes = records[_CODES].astype(np.int64)
        states = [records[name] for name in self._states]
        return Snapshots(numbers[:, 0], numbers[:, 1], numbers[:, 2], codes, states), [Kind.OWN] * len(values)

    def _sift(self, values: Sequence[bytes]) -> tuple[Snapshots, list[Kind]]:
        """`decode` where some value is not this model's own."""
        kinds = [self._kind(value) for value in values]
        own, _ = self.decode([value for value, kind in zip(values, kinds, strict=True) if kind is Kind.OWN])
        return own, kinds

    def _kind(self, value: bytes) -> Kind:
        if len(value) < HEADER.size + CHECKSUM_BYTES or not value.startswith(MAGIC) or zlib.crc32(value) != RESIDUE:
            return Kind.CORRUPT
        if not value.startswith(self._prefix):
            return Kind.FOREIGN
        return Kind.OWN if len(value) == self.bytes_per_snapshot else Kind.CORRUPT
