"""Find an event's fields in a JSON document, and say exactly what is wrong where they are not usable."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import numpy as np

from streamer.errors import EventError

MAX_DEPTH = 64  # far beyond any event; a fixed number, so that no interpreter's stack decides
MAX_TS = 253_402_300_799_999  # the last millisecond of year 9999
NOT_GIVEN = -1  # the event says nothing of this category; its stream keeps what it had
EPOCH, EPOCH_WITHOUT_ZONE = datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1)
STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+', re.DOTALL)  # possessive: nothing is kept to go back to
STEP = np.zeros(256, np.int8)  # what each byte adds to the depth
STEP[list(b"{[")], STEP[list(b"}]")] = 1, -1
KEY, TIMESTAMP = "$key", "$timestamp"

Path = tuple[str, ...]
TsUnit = Literal["ms", "s", "iso8601"]


@dataclass(frozen=True)
class Layout:
    """Where an event's fields are found in a record: paths into the JSON, or the record's key and timestamp.

    stream  a path, or ("$key",)
    ts      a path, or ("$timestamp",); ts_unit "ms" reads ISO 8601 strings too
    """

    stream: Path = ("stream",)
    ts: Path = ("ts",)
    ts_unit: TsUnit = "ms"
    value: Path = ("value",)
    covariates: Mapping[str, Path] = field(default_factory=dict)
    static: Mapping[str, Path] = field(default_factory=dict)

    def covariate(self, name: str) -> Path:
        """Where a covariate of the model is found."""
        return self.covariates.get(name, ("covariates", name))

    def category(self, name: str) -> Path:
        """Where a static category of the model is found."""
        return self.static.get(name, ("static", name))


class _Absent:
    """A path that leads nowhere, as opposed to one that leads to null."""


ABSENT = _Absent()


def parse(raw: bytes, deep: bool | None = None) -> tuple[Any, bool]:
    """The JSON document, and whether it is strictly JSON: NaN and Infinity are read to be named, not accepted.

    deep  what `too_deep` says of it, where that is known already
    """
    if too_deep(raw) if deep is None else deep:
        raise EventError("too_deep", f"the JSON is nested deeper than {MAX_DEPTH} levels")
    try:
        return msgspec.json.decode(raw), True
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        try:
            return json.loads(raw.decode()), False
        except ValueError:
            raise EventError("not_json", f"the value is not JSON: {error}") from None


def too_deep(raw: bytes) -> bool:
    """Whether the JSON is nested deeper than MAX_DEPTH; brackets inside strings do not count.

    No Python object per bracket: a record may hold a million of them.
    """
    if raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH:
        return False
    steps = STEP[np.frombuffer(STRING.sub(b"", raw), np.uint8)]
    return bool(steps.cumsum(dtype=np.int32).max(initial=0) > MAX_DEPTH)


def find(document: Any, path: Path) -> Any:
    """What a path leads to; ABSENT where it leads nowhere. Raises EventError where it leads through no object."""
    for depth, name in enumerate(path):
        if document is None:
            return ABSENT
        if not isinstance(document, dict):
            outer = ".".join(path[:depth])
            raise EventError("wrong_type", f'"{outer}" should be an object, found {shown(document)}')
        document = document.get(name, ABSENT)
        if document is ABSENT:
            return ABSENT
    return document


def number(document: dict[str, Any], path: Path, name: str, *, required: bool) -> float | None:
    """A finite number, or None where it is missing. Raises EventError for anything else."""
    found = find(document, path)
    if found is ABSENT and required:
        raise EventError("missing_field", f'no "{".".join(path)}", which holds the {name}; null says it is missing')
    if found is ABSENT or found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise EventError("wrong_type", f'"{".".join(path)}" should be a number or null, found {shown(found)}')
    try:
        result = float(found)
    except OverflowError:
        raise EventError("out_of_range", f'"{".".join(path)}" is beyond what a float64 can hold') from None
    if not math.isfinite(result):
        raise EventError("not_finite", f'"{".".join(path)}" is {result}, expected a finite number or null')
    return result


def code(document: dict[str, Any], path: Path, vocabulary: Mapping[str, int]) -> int:
    """A category's code: 0 for a word outside the vocabulary, NOT_GIVEN where the event names none."""
    found = find(document, path)
    if found is ABSENT or found is None:
        return NOT_GIVEN
    if not isinstance(found, str):
        raise EventError("wrong_type", f'"{".".join(path)}" should be a string, found {shown(found)}')
    return vocabulary.get(found, 0)


def milliseconds(found: Any, layout: Layout) -> int:
    """UTC epoch milliseconds of what was found as a timestamp. Raises EventError where it is not one."""
    where = ".".join(layout.ts)
    if found is ABSENT or found is None:
        raise EventError("bad_timestamp", f'no timestamp at "{where}"')
    if isinstance(found, str) and layout.ts_unit != "s":
        try:
            ms: float = iso8601(found)
        except ValueError:
            raise EventError("bad_timestamp", f'the timestamp at "{where}" is {shown(found)}, not ISO 8601') from None
    elif isinstance(found, bool) or not isinstance(found, int | float) or layout.ts_unit == "iso8601":
        expected = {"ms": "epoch milliseconds or ISO 8601", "s": "epoch seconds", "iso8601": "ISO 8601"}
        raise EventError(
            "wrong_type", f'the timestamp at "{where}" should be {expected[layout.ts_unit]}, found {shown(found)}'
        )
    else:
        ms = found * 1000 if layout.ts_unit == "s" else found
    if not 0 <= ms <= MAX_TS:
        raise EventError("bad_timestamp", f'the timestamp at "{where}" is {shown(found)}, expected years 1970 to 9999')
    return round(ms) if layout.ts_unit == "s" else math.floor(ms)


def iso8601(text: str) -> int:
    """UTC epoch milliseconds, rounded down, of an ISO 8601 time; without a zone it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    since = moment - (EPOCH_WITHOUT_ZONE if moment.tzinfo is None else EPOCH)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def shown(value: Any) -> str:
    """A value in a message: its start, however large it is."""
    return f"{type(value).__name__} {value!r:.60}"
