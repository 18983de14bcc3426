"""Event lines in, forecast lines out."""

import gzip
import io

import pytest

from streamer.adapters.files import open_input, open_output, read_records
from streamer.errors import ConfigError


class Trickle(io.RawIOBase):
    """A pipe whose reads return these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def read1(self, _size: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def lines_of(*pieces: bytes, limit: int = 100) -> list[tuple[int, bytes | None]]:
    batches = list(read_records(Trickle(*pieces), "events.jsonl", limit))
    return [pair for batch in batches for pair in zip(batch.offsets, batch.values, strict=True)]


def test_lines_are_numbered_from_0_wherever_the_reads_cut_them():
    expected = [(0, b"first"), (1, b""), (2, b"third"), (3, b"last")]
    whole = b"first\n\nthird\nlast"
    for cut in range(len(whole)):
        assert lines_of(whole[:cut] or whole, whole[cut:] if cut else b"") == expected
    assert lines_of(whole + b"\n") == expected


def test_what_a_pipe_has_is_answered_before_more_comes():
    batches = read_records(Trickle(b"one\ntwo\n", b"three\n"), "stdin", 100)
    assert len(next(batches)) == 2
    assert len(next(batches)) == 1


def test_an_endless_line_is_cut_to_what_is_refused_as_too_large():
    ((offset, value), after) = lines_of(*[b"x" * 60] * 50, b"\ngood\n", limit=100)
    assert offset == 0
    assert value is not None
    assert 100 < len(value) <= 161
    assert after == (1, b"good")


def test_a_packed_file_is_unpacked(tmp_path):
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(gzip.compress(b"one\n"))
    with open_input(str(path)) as source:
        assert [r.values for r in read_records(source, path.name, 100)] == [[b"one"]]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"--input: cannot read .*absent"):
        open_input(str(tmp_path / "absent.jsonl"))
    with pytest.raises(ConfigError, match=r"--output: cannot write .*absent"):
        open_output(str(tmp_path / "absent" / "f.jsonl"), "-")


def test_the_input_is_not_written_over(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"precious\n")
    with pytest.raises(ConfigError, match="is the input too"):
        open_output(str(path), str(path))
    assert path.read_bytes() == b"precious\n"


PACKED = gzip.compress(b"".join(b"%d\n" % n for n in range(10_000)))


@pytest.mark.parametrize(
    "content",
    [PACKED[: len(PACKED) // 2], b"one\ntwo\n", PACKED[:50] + bytes(99) + PACKED[149:], PACKED[:-8] + bytes(8)],
    ids=["cut off", "not packed", "damaged", "wrong checksum"],
)
def test_a_packed_file_that_cannot_be_unpacked_to_its_end_is_refused(tmp_path, content):
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(content)
    with (
        open_input(str(path)) as source,
        pytest.raises(ConfigError, match=r"^--input: cannot read 'events\.jsonl\.gz' t"),
    ):
        list(read_records(source, path.name, 100))


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_an_output_that_is_full_is_refused(size):
    with (
        pytest.raises(ConfigError, match=r"^--output: cannot write '/dev/full' to its end: No space left on device"),
        open_output("/dev/full", "-") as sink,
    ):
        sink.write(b"x" * size)
