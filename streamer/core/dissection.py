"""A changelog record taken apart without its model: what it says of itself, for people to look at.

The format is `snapshot`'s; nothing here needs to know the shapes of a model's states.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamer.core.contract import Array
from streamer.core.snapshot import CHECKSUM_BYTES, HEADER, MAGIC, NUMBERS, VERSION


@dataclass(frozen=True, slots=True)
class Dissected:
    """One stream's snapshot.

    states  by name, each flat, as the record does not hold its shape
    """

    fingerprint: str
    last_slot: int
    age: int
    covers: int
    codes: tuple[int, ...]
    states: Mapping[str, Array]


def dissect(value: bytes) -> Dissected | None:
    """What a snapshot holds; None where it is corrupt, or of a version that is not known here."""
    body, checksum = value[:-CHECKSUM_BYTES], value[-CHECKSUM_BYTES:]
    if zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "little") != checksum or len(body) < HEADER.size:
        return None
    magic, version, fingerprint = HEADER.unpack_from(body)
    if (magic, version) != (MAGIC, VERSION):
        return None
    at = HEADER.size
    last_slot, age, covers = struct.unpack_from(f"<{NUMBERS}q", body, at)
    at += 8 * NUMBERS
    categories = body[at]
    codes = struct.unpack_from(f"<{categories}q", body, at + 1)
    at += 1 + 8 * categories
    return Dissected(fingerprint.hex(), last_slot, age, covers, codes, _sections(body, at))


def _sections(body: bytes, at: int) -> dict[str, Array]:
    count, at = body[at], at + 1
    sections: dict[str, Array] = {}
    for _ in range(count):
        name, at = _text(body, at)
        kind, at = _text(body, at)
        (size,) = struct.unpack_from("<I", body, at)
        at += 4
        sections[name] = np.frombuffer(body[at : at + size], np.dtype(kind))
        at += size
    return sections


def _text(body: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + body[at]
    return body[at + 1 : end].decode(), end
