"""From a record's bytes to an event: found by the layout, checked, or refused with a reason.

Two ways to the same columns. Records in the default layout, their times numbers or text, go through one typed
decoder in C; what it refuses, and every other layout, goes through `understand`, which finds the fields one by
one and says exactly what is wrong. Each record is judged by itself: no clock, no other record.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from streamer.core.events import Records
from streamer.core.fields import (
    ABSENT,
    KEY,
    MAX_DEPTH,
    MAX_TS,
    NOT_GIVEN,
    TIMESTAMP,
    Layout,
    TsUnit,
    code,
    find,
    iso8601,
    milliseconds,
    number,
    parse,
    shown,
    too_deep,
)
from streamer.errors import EventError

MAX_STREAM_BYTES = 512
NOT_JUDGED: Mapping[int, bool] = {}
STREAM, TS, VALUE = map(attrgetter, ("stream", "ts", "value"))  # mapped, half the time of a comprehension


@dataclass(frozen=True)
class Limits:
    """What an event may hold: bytes of a record's value, |value|, and milliseconds ahead of its record."""

    max_record_bytes: int = 1 << 20
    max_abs: float = 1e15
    max_future_ms: int | None = None  # None: no limit


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that is not used: its position in its `Records`, the reason code and what was found."""

    index: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Events:
    """The usable records of one `Records`, as columns of length n.

    index   (n,)      int64 positions in the records
    stream  n ids
    ts      (n,)      int64 UTC epoch milliseconds
    values  (n, 1+P)  float64 target and covariates; NaN where missing
    codes   (n, C)    int64 category codes, 0 unknown, NOT_GIVEN where the event names none
    """

    index: npt.NDArray[np.int64]
    stream: list[str]
    ts: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    codes: npt.NDArray[np.int64]
    rejected: list[Rejection]

    def keep(self, usable: npt.NDArray[np.bool_], reason: str, message: Callable[[int], str]) -> "Events":
        """These events without the unusable ones, which become rejections; message takes a column position."""
        if usable.all():
            return self
        kept = self.only(usable)
        kept.rejected.extend(Rejection(int(self.index[i]), reason, message(int(i))) for i in np.flatnonzero(~usable))
        return kept

    def only(self, wanted: npt.NDArray[np.bool_]) -> "Events":
        """The wanted of these events."""
        return Events(
            self.index[wanted],
            [s for s, good in zip(self.stream, wanted.tolist(), strict=True) if good],
            self.ts[wanted],
            self.values[wanted],
            self.codes[wanted],
            list(self.rejected),
        )

    def merged(self, others: "Events") -> "Events":
        """These events and others of the same records, in record order."""
        if not len(others.index):
            return replace(self, rejected=self.rejected + others.rejected)
        index = np.concatenate((self.index, others.index))
        order = np.argsort(index)
        streams = self.stream + others.stream
        return Events(
            index[order],
            [streams[i] for i in order.tolist()],
            np.concatenate((self.ts, others.ts))[order],
            np.concatenate((self.values, others.values))[order],
            np.concatenate((self.codes, others.codes))[order],
            self.rejected + others.rejected,
        )


Understood = tuple[str, int, list[float | None], list[int]]  # stream, ts, target and covariates, codes


class Decoder:
    """Decodes records of one layout into events for a model.

    covariates  names of the past covariates, in the model's order
    static      names of the static categories and their vocabularies, in the model's order
    """

    def __init__(
        self, layout: Layout, covariates: Sequence[str], static: Mapping[str, Sequence[str]], limits: Limits
    ) -> None:
        self._layout = layout
        self._limits = limits
        self._numbers = [("value", layout.value), *((name, layout.covariate(name)) for name in covariates)]
        self._categories = [
            (name, layout.category(name), {word: position for position, word in enumerate(words, start=1)})
            for name, words in static.items()
        ]
        self._mapped = layout != Layout()
        self._typable = layout in (Layout(), Layout(ts_unit="iso8601"))
        self._short = min(2 * MAX_DEPTH, limits.max_record_bytes)  # neither too deep nor too large, without a look
        self._typed = _typed_decoder(covariates, static, layout.ts_unit)

    def decode(self, records: Records) -> Events:
        """Every record becomes an event or a rejection."""
        if not self._typable:
            events = self._understood(records, range(len(records)))
        else:
            values, deep = self._tame(records.values)
            events, odd = self._plain(values)
            if odd:
                events = events.merged(self._understood(records, odd, deep))
        with np.errstate(invalid="ignore"):
            in_range = np.asarray(~(np.abs(events.values) > self._limits.max_abs).any(axis=1))
        events = events.keep(in_range, "out_of_range", lambda i: self._out_of_range(events.values[i]))
        return self._without_future(events, records)

    def _plain(self, raws: Sequence[bytes | None]) -> tuple[Events, list[int]]:
        """The plain events of the default layout, and the positions of all the others."""
        plain, index, odd = self._decoded(raws)
        ts = list(map(TS, plain))
        if str in set(map(type, ts)):
            known = {text: _usable_time(text) for text in set(ts) if type(text) is str}  # streams share most times
            ts = [known.get(t, t) for t in ts]
            if None in known.values():
                odd = sorted(odd + [i for i, t in zip(index, ts, strict=True) if t is None])
                plain, index, ts = (
                    [x for x, t in zip(xs, ts, strict=True) if t is not None] for xs in (plain, index, ts)
                )
        return self._columns(plain, ts, index), odd

    def _decoded(self, raws: Sequence[bytes | None]) -> tuple[list[Any], Sequence[int], list[int]]:
        """What the typed decoder makes of the values, their positions, and the positions of those that it refuses."""
        plain: list[Any] = []
        odd: list[int] = []
        rest = iter(raws)
        while len(plain) + len(odd) < len(raws):
            try:
                plain.extend(map(self._typed, rest))  # a refused one ends it; what came before is kept
            except (msgspec.MsgspecError, TypeError, UnicodeDecodeError):  # TypeError: None
                odd.append(len(plain) + len(odd))
        refused = set(odd)
        return plain, [i for i in range(len(raws)) if i not in refused] if odd else range(len(raws)), odd

    def _tame(self, raws: Sequence[bytes | None]) -> tuple[Sequence[bytes | None], dict[int, bool]]:
        """The values, None in place of those that are too large or too deep; and what was judged, which takes long."""
        short, most = self._short, self._limits.max_record_bytes
        if None not in raws and max(map(len, raws), default=0) <= short:  # type: ignore[arg-type]
            return raws, {}
        deep = {i: too_deep(raw) for i, raw in enumerate(raws) if raw is not None and short < len(raw) <= most}
        tame = [None if raw is None or len(raw) > most or deep.get(i, False) else raw for i, raw in enumerate(raws)]
        return tame, deep

    def _columns(self, plain: Sequence[Any], ts: Sequence[int], index: Sequence[int]) -> Events:
        n = len(plain)
        values = np.empty((n, len(self._numbers)))
        values[:, 0] = np.array(list(map(VALUE, plain)), float)
        for column in range(1, len(self._numbers)):
            values[:, column] = np.array([getattr(e.covariates, f"f{column - 1}", None) for e in plain], float)
        codes = np.empty((n, len(self._categories)), np.int64)
        for column, (_, _, vocabulary) in enumerate(self._categories):
            words = [getattr(e.static, f"f{column}", None) for e in plain]
            codes[:, column] = [NOT_GIVEN if w is None else vocabulary.get(w, 0) for w in words]
        where, times = np.fromiter(index, np.int64, n), np.fromiter(ts, np.int64, n)
        return Events(where, list(map(STREAM, plain)), times, values, codes, [])

    def _understood(self, records: Records, positions: Sequence[int], deep: Mapping[int, bool] = NOT_JUDGED) -> Events:
        """One record after another, so that a bad one costs nobody else; deep has what `too_deep` said of some."""
        index, rejected = [], []
        understood: list[Understood] = []
        stamps = records.timestamps
        for i in positions:
            stamp = None if stamps is None else stamps[i]
            try:
                event = self.understand(records.values[i], records.keys[i], stamp, deep.get(i))
            except EventError as error:
                rejected.append(Rejection(i, error.reason, str(error)))
            else:
                index.append(i)
                understood.append(event)
        n = len(understood)
        return Events(
            np.array(index, np.int64),
            [stream for stream, _, _, _ in understood],
            np.array([ts for _, ts, _, _ in understood], np.int64),
            np.array([numbers for _, _, numbers, _ in understood], float).reshape(n, len(self._numbers)),
            np.array([codes for _, _, _, codes in understood], np.int64).reshape(n, len(self._categories)),
            rejected,
        )

    def understand(
        self, raw: bytes | None, key: bytes | None, timestamp: int | None, deep: bool | None = None
    ) -> Understood:
        """One record's fields. Raises EventError with the first thing that is wrong.

        deep  what `too_deep` says of the value, where that is known already
        """
        if raw is None:
            raise EventError("not_object", "the record has no value, expected a JSON object")
        if len(raw) > self._limits.max_record_bytes:
            raise EventError(
                "too_large",
                f"the value has {len(raw)} bytes, input.max_record_bytes is {self._limits.max_record_bytes}",
            )
        document, strict = parse(raw, deep)
        if not isinstance(document, dict):
            raise EventError("not_object", f"expected a JSON object, found {type(document).__name__}")
        layout = self._layout
        event = (
            self._stream(document, key),
            milliseconds(timestamp if layout.ts == (TIMESTAMP,) else find(document, layout.ts), layout),
            [number(document, path, name, required=name == "value") for name, path in self._numbers],
            [code(document, path, vocabulary) for _, path, vocabulary in self._categories],
        )
        if not strict:
            raise EventError("not_json", "the value holds NaN, Infinity, or half a surrogate pair, which are not JSON")
        return event

    def _stream(self, document: dict[str, Any], key: bytes | None) -> str:
        if self._layout.stream == (KEY,):
            try:
                found: Any = (key or b"").decode()
            except UnicodeDecodeError:
                raise EventError("bad_stream", "the record's key is not UTF-8") from None
        else:
            found = find(document, self._layout.stream)
            if found is ABSENT:
                raise EventError("missing_field", f'no "{".".join(self._layout.stream)}", which holds the stream id')
        if self._mapped and type(found) is int:
            found = str(found)  # topics that already exist often number their streams
        if not isinstance(found, str):
            raise EventError("wrong_type", f"the stream id should be a string, found {shown(found)}")
        try:
            size = len(found.encode())
        except UnicodeEncodeError:
            raise EventError("bad_stream", "the stream id holds half a surrogate pair") from None
        if not 0 < size <= MAX_STREAM_BYTES:
            raise EventError("bad_stream", f"the stream id has {size} bytes, expected 1 to {MAX_STREAM_BYTES}")
        return found

    def _out_of_range(self, numbers: npt.NDArray[np.float64]) -> str:
        with np.errstate(invalid="ignore"):
            column = int(np.argmax(np.abs(numbers) > self._limits.max_abs))
        return f'"{self._numbers[column][0]}" is {numbers[column]:g}, beyond ±input.max_abs {self._limits.max_abs:g}'

    def _without_future(self, events: Events, records: Records) -> Events:
        allowed = self._limits.max_future_ms
        if allowed is None or records.timestamps is None or not len(events.ts):
            return events
        stamps = np.asarray(records.timestamps, np.int64)[events.index]
        ahead = events.ts - stamps
        return events.keep(
            (ahead <= allowed) | (stamps < 0),
            "future",
            lambda i: (
                f"ts is {ahead[i] / 1000:g} s ahead of the record's timestamp, at most {allowed / 1000:g} s may be"
            ),
        )


def _usable_time(text: str) -> int | None:
    """The milliseconds of an ISO 8601 time; None where it is none, or out of range."""
    try:
        ms = iso8601(text)
    except ValueError:
        return None
    return ms if 0 <= ms <= MAX_TS else None


def _typed_decoder(
    covariates: Sequence[str], static: Mapping[str, Sequence[str]], ts_unit: TsUnit
) -> Callable[[Any], Any]:
    """A decoder of the default layout that refuses all but plain good events; their times may be any text."""

    def optional(name: str, names: Sequence[str], kind: Any) -> Any:
        fields = [(f"f{i}", kind | None, None) for i in range(len(names))]
        renamed = {f"f{i}": n for i, n in enumerate(names)}
        return msgspec.defstruct(name, fields, rename=renamed)

    # 128 characters are at most 512 bytes; longer ids take the other way and are measured there
    stream = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_STREAM_BYTES // 4)]
    ts = str if ts_unit == "iso8601" else Annotated[int, msgspec.Meta(ge=0, le=MAX_TS)] | str
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [("stream", stream), ("ts", ts), ("value", float | None)]
    if covariates:
        fields.append(("covariates", optional("Covariates", covariates, float) | None, None))
    if static:
        fields.append(("static", optional("Static", list(static), str) | None, None))
    event = msgspec.defstruct("Event", fields, gc=False)
    return msgspec.json.Decoder(event).decode
