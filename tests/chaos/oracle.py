"""What one uninterrupted run over the input would have published, and how what was published differs from it.

The uninterrupted run is `streamer replay` over the input topic's records, a partition after the other. Where a
stream was to start fresh in between, a replay of its own begins there.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from kafka.consumer.fetcher import ConsumerRecord

from streamer.__main__ import main

TOLERANCE = 1e-4

Forecast = dict[str, Any]


class Life(NamedTuple):
    """A stream between one fresh start and the next.

    begin         the first offset whose forecast is to be seen
    model         what it was fed to
    fed_silently  the offset from which it was fed before that; none: it was not
    """

    begin: int
    model: Path
    fed_silently: int | None = None

    @property
    def fed(self) -> int:
        """The offset from which it was fed."""
        return self.begin if self.fed_silently is None else self.fed_silently


Lives = Mapping[bytes, Sequence[Life]]  # by stream, in order; events before the first life are nobody's


@dataclass(frozen=True)
class Verdict:
    """How the visible forecasts differ from those of an uninterrupted run.

    unordered  forecasts behind a later one of their partition
    unequal    forecasts of which anything but the numbers differs: stream, origin, model, warm, key, partition
    worst      the largest difference of a number, as a share of its forecast's largest one
    """

    expected: int
    visible: int
    missing: int
    unexpected: int
    duplicate: int
    unordered: int
    unequal: int
    worst: float

    @property
    def is_clean(self) -> bool:
        wrong = self.missing + self.unexpected + self.duplicate + self.unordered + self.unequal
        return self.expected > 0 and not wrong and self.worst <= TOLERANCE

    def __str__(self) -> str:
        return (
            f"expected={self.expected} visible={self.visible} missing={self.missing} unexpected={self.unexpected} "
            f"duplicate={self.duplicate} unordered={self.unordered} unequal={self.unequal} worst={self.worst:.1e}"
        )


def judge(output: Iterable[ConsumerRecord], expected: Mapping[str, Forecast]) -> Verdict:
    """Hold the records of the output, by partition and offset, against the expected forecasts by id."""
    visible: dict[str, Forecast] = {}
    count: Counter[str] = Counter()
    last: dict[int, int] = {}
    unordered = misplaced = 0
    for record in output:
        forecast = orjson.loads(record.value)
        _, partition, offset = forecast["id"].rsplit("-", 2)
        unordered += int(offset) <= last.get(record.partition, -1)
        last[record.partition] = int(offset)
        misplaced += int(partition) != record.partition or record.key != forecast["stream"].encode()
        count[forecast["id"]] += 1
        visible[forecast["id"]] = forecast
    shared = sorted(expected.keys() & visible.keys())
    return Verdict(
        expected=len(expected),
        visible=count.total(),
        missing=len(expected.keys() - visible.keys()),
        unexpected=len(visible.keys() - expected.keys()),
        duplicate=count.total() - len(count),
        unordered=unordered,
        unequal=misplaced + sum(_but_numbers(visible[i]) != _but_numbers(expected[i]) for i in shared),
        worst=_worst([visible[i] for i in shared], [expected[i] for i in shared]),
    )


def expected_forecasts(
    records: Iterable[ConsumerRecord], model: Path, lives: Lives | None = None, flags: Sequence[str] = ()
) -> dict[str, Forecast]:
    """The forecasts of every accepted event among the input's records, in offset order, by id.

    lives  of the streams that do not have one with `model` from their first event on
    flags  settings of `streamer replay`
    """
    whole, lives = [Life(0, model)], lives or {}
    files: dict[tuple[int, Path, int], list[ConsumerRecord]] = {}
    silent: set[tuple[int, str]] = set()
    for record in records:
        own = lives.get(record.key, whole)
        ends = [life.begin for life in own[1:]] + [record.offset + 1]
        for number, (life, end) in enumerate(zip(own, ends, strict=False)):
            if life.fed <= record.offset < end:
                files.setdefault((number, life.model, record.partition), []).append(record)
                if record.offset < life.begin:
                    silent.add((number, _id(record)))
    found: dict[str, Forecast] = {}
    for (number, fed_to, _), part in files.items():
        forecasts = _replayed(part, fed_to, flags)
        found.update((each["id"], each) for each in forecasts if (number, each["id"]) not in silent)
    return found


def _id(record: ConsumerRecord) -> str:
    return f"{record.topic}-{record.partition}-{record.offset}"


def _replayed(records: Sequence[ConsumerRecord], model: Path, flags: Sequence[str]) -> Iterable[Forecast]:
    """What `streamer replay` makes of some records of one partition, with the ids of the topic's."""
    with tempfile.TemporaryDirectory() as folder:
        source, sink = Path(folder) / "events.jsonl", Path(folder) / "forecasts.jsonl"
        source.write_bytes(b"".join(record.value + b"\n" for record in records))
        files = ("--input", str(source), "--output", str(sink))
        assert main(["replay", "--model", str(model), *files, *flags]) == 0
        forecasts = [orjson.loads(line) for line in sink.read_bytes().splitlines()]
    for forecast in forecasts:
        record = records[int(forecast["id"].rsplit("-", 1)[1])]
        yield forecast | {"id": _id(record)}


def _but_numbers(forecast: Forecast) -> Forecast:
    return {name: value for name, value in forecast.items() if name != "quantiles"}


def _worst(found: Sequence[Forecast], expected: Sequence[Forecast]) -> float:
    if not found:
        return 0.0
    a, b = _numbers(found), _numbers(expected)
    return float((np.abs(a - b).max(axis=1) / np.abs(b).max(axis=1)).max())


def _numbers(forecasts: Sequence[Forecast]) -> np.ndarray:
    """(n, Q·H)"""
    return np.array([np.concatenate(list(forecast["quantiles"].values())) for forecast in forecasts])
