"""Records as they are published: forecasts as JSON, dead letters with their reason in headers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from streamer.core.contract import Manifest
from streamer.core.decoding import Rejection
from streamer.core.events import Headers, Records
from streamer.core.forecasts import Forecasts
from streamer.core.rounding import IN_FULL, SCALES, Decimals, decimals, scaled

DEAD_LETTER_HEADER = "__streams.errors."
DIGITS = 6  # significant, of a forecast's largest number
SMALLEST = 1e-5  # orjson writes smaller numbers with an exponent

Numbers = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Frame:
    """What is the same in every forecast of one batch and partition, in the order in which it is written.

        head offset after_offset stream after_stream origin cold|warm levels[0] numbers levels[1] numbers … tail

    The text of a level ends the one before it.
    """

    head: bytes
    after_offset: bytes
    after_stream: bytes
    cold: bytes
    warm: bytes
    levels: tuple[bytes, ...]
    tail: bytes


@dataclass(frozen=True, slots=True)
class Lines:
    """What differs between n forecasts, as columns.

    offsets, origin  (n,)       int64
    names                       the stream ids as JSON strings, each with a line feed after it
    is_warm          (n,)
    quantiles        (n, H, Q)  float32
    places           (n,)       decimals of each forecast's numbers, or IN_FULL
    """

    offsets: npt.NDArray[np.int64]
    names: bytes
    origin: npt.NDArray[np.int64]
    is_warm: npt.NDArray[np.bool_]
    quantiles: Numbers
    places: Decimals

    def only(self, wanted: npt.NDArray[np.bool_]) -> "Lines":
        """Some of them."""
        names = b"".join(compress(self.names.splitlines(keepends=True), wanted.tolist()))
        return Lines(
            self.offsets[wanted], names, self.origin[wanted], self.is_warm[wanted], self.quantiles[wanted],
            self.places[wanted],
        )  # fmt: skip


Writer = Callable[[Frame, Lines], Sequence[bytes]]


def write_lines(frame: Frame, lines: Lines) -> list[bytes]:
    """Each forecast's JSON; what a writer in another language must write byte for byte.

    Numbers are written without an exponent and without needless zeros, `0.0` for those that round to nothing; in
    full, they are float32 in shortest round-trip form. NaN is null.
    """
    middle = (frame.cold, frame.warm)
    return [
        b"%b%d%b%b%b%d%b%b%b"
        % (
            frame.head, offset, frame.after_offset, stream, frame.after_stream, origin, middle[is_warm],
            b"".join([part for pair in zip(frame.levels, numbers, strict=True) for part in pair]), frame.tail,
        )
        for offset, stream, origin, is_warm, numbers in zip(
            lines.offsets.tolist(),
            lines.names.split(b"\n")[:-1],
            lines.origin.tolist(),
            lines.is_warm.tolist(),
            _numbers(lines.quantiles, lines.places),
            strict=True,
        )
    ]  # fmt: skip


class ForecastEncoder:
    """Encodes the forecasts of one model.

    digits  significant digits of a forecast's largest number, published or not, as `rounding` says; 0: every number in
            full
    write   writes the lines: `write_lines`, or another that writes the same
    leads   those to publish, of 1 … H; empty: all
    levels  those to publish, of the manifest's; empty: all
    """

    def __init__(
        self,
        manifest: Manifest,
        digits: int = DIGITS,
        write: Writer = write_lines,
        leads: Sequence[int] = (),
        levels: Sequence[float] = (),
    ) -> None:
        self._leads = [lead - 1 for lead in sorted(leads)] or None
        kept = [i for i, level in enumerate(manifest.levels) if not levels or level in levels]
        self._kept_levels = kept if levels else None
        step = "null" if manifest.step_ms is None else str(manifest.step_ms)
        model = orjson.dumps(manifest.model_id).decode()
        told = f',"leads":{orjson.dumps(sorted(leads)).decode()}' if leads else ""
        before, after = f',"step_ms":{step},"model":{model},"warm":', f'{told},"quantiles":{{'
        self._cold, self._warm = (f"{before}{word}{after}".encode() for word in ("false", "true"))
        self._levels = tuple(
            f'{"]," if i else ""}"{level!r}":['.encode() for i, level in enumerate(manifest.levels[k] for k in kept)
        )
        self._digits = digits
        self._write = write

    def encode(self, forecasts: Forecasts) -> Sequence[bytes]:
        """One JSON object per event, in record order; the forecasts of all of them are wanted."""
        if not len(forecasts):
            return []
        topic, number = forecasts.records.partition
        head = b'{"id":%b-%d-' % (orjson.dumps(topic)[:-1], number)
        frame = Frame(head, b'","stream":', b',"origin":', self._cold, self._warm, self._levels, b"]}}")
        quantiles = forecasts.quantiles
        # of the whole forecast: a number is published alike whichever others are, whose range it shares
        places = decimals(quantiles, self._digits)
        if self._leads is not None:
            quantiles = quantiles[:, self._leads]
        if self._kept_levels is not None:
            quantiles = quantiles[:, :, self._kept_levels]
        quantiles = np.ascontiguousarray(quantiles)
        names = msgspec.json.Encoder().encode_lines(forecasts.stream)  # JSON has no bare line feeds
        return self._write(frame, Lines(forecasts.offsets, names, forecasts.origin, forecasts.warm, quantiles, places))


def _numbers(quantiles: Numbers, places: Decimals) -> Iterator[list[bytes]]:
    """Each forecast's numbers, a text per level; one call writes those of all, then the text is cut."""
    rounded = places != IN_FULL
    whole = scaled(quantiles, np.where(rounded, places, 0))
    units = SCALES[places][:, None, None]
    values = whole / units + 0.0  # no negative zero
    with np.errstate(invalid="ignore"):
        tiny = ((values != 0) & (np.abs(values) < SMALLEST)).any(axis=(1, 2)) & rounded
    texts = [_dumped(values[rounded]), _dumped(quantiles[~rounded])]
    for i, in_full in enumerate((~rounded).tolist()):
        text = next(texts[in_full])
        yield _without_exponents(whole[i], int(places[i])) if tiny[i] else text


def _dumped(numbers: npt.NDArray[np.floating]) -> Iterator[list[bytes]]:
    by_level = np.ascontiguousarray(numbers.transpose(0, 2, 1))
    text = orjson.dumps(by_level, option=orjson.OPT_SERIALIZE_NUMPY)
    return map(_levels, text[3:-3].split(b"]],[["))


def _levels(forecast: bytes) -> list[bytes]:
    return forecast.split(b"],[")


def _without_exponents(whole: npt.NDArray[np.float64], places: int) -> list[bytes]:
    return [
        ",".join("null" if w != w else _shifted(int(w), places) for w in level).encode() for level in whole.T.tolist()
    ]


def _shifted(whole: int, places: int) -> str:
    """A whole number times 10^-places."""
    digits = f"{abs(whole):0{places + 1}d}"
    fraction = digits[len(digits) - places :].rstrip("0") or "0"
    return ("-" if whole < 0 else "") + f"{digits[: len(digits) - places]}.{fraction}"


def dead_letter_headers(rejection: Rejection, records: Records) -> Headers:
    """The record's own headers, then why and where it was refused."""
    topic, number = records.partition
    why = {
        "exception": rejection.reason,
        "message": rejection.message,
        "topic": topic,
        "partition": str(number),
        "offset": str(records.offsets[rejection.index]),
    }
    own = list(records.headers(rejection.index))
    return own + [(DEAD_LETTER_HEADER + name, text.encode(errors="replace")) for name, text in why.items()]
