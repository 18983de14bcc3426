"""Snapshots taken apart without their model."""

import zlib

import numpy as np

from streamer.core.contract import StateSpec
from streamer.core.dissection import dissect
from streamer.core.snapshot import SnapshotFormat, Snapshots

FINGERPRINT = "ab" * 32
STATES = (StateSpec("h", np.dtype("float32"), (2, 3)), StateSpec("steps", np.dtype("int64"), ()))


def encoded(states=STATES, codes=(4, 0)):
    format_ = SnapshotFormat(FINGERPRINT, states, len(codes))
    tensors = [np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.array([7])][: len(states)]
    columns = [np.array([value]) for value in (12, 5, 99)]
    return format_.encode(Snapshots(*columns, np.array([codes], np.int64).reshape(1, len(codes)), tensors))[0]


def checked(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_a_snapshot_tells_all_it_holds_without_its_model():
    found = dissect(encoded())
    assert (found.fingerprint, found.last_slot, found.age, found.covers, found.codes) == (
        FINGERPRINT,
        12,
        5,
        99,
        (4, 0),
    )
    assert found.states["h"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.states["steps"].tolist() == [7]
    assert found.states["steps"].dtype == np.int64


def test_a_model_without_state_and_codes_has_a_snapshot_too():
    found = dissect(encoded(states=(), codes=()))
    assert (found.codes, found.states) == ((), {})


def test_a_changed_byte_makes_a_snapshot_unreadable():
    value = bytearray(encoded())
    value[40] ^= 1
    assert dissect(bytes(value)) is None


def test_what_is_too_short_for_a_snapshot_is_none():
    assert dissect(b"") is None
    assert dissect(checked(b"TC")) is None


def test_another_version_is_not_guessed_at():
    body = bytearray(encoded()[:-4])
    body[2] = 2
    assert dissect(checked(bytes(body))) is None
