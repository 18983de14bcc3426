"""What one uninterrupted run over the input would have published, and how what was published differs from it."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamer.adapters.onnx_session import OnnxModel
from streamer.core.events import Partition, Records
from tests.drive import new_engine, run
from tests.integration.records import read_committed

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Verdict:
    """How the visible forecasts differ from those of an uninterrupted run.

    worst  the largest difference of a number, as a share of its stream's largest one
    """

    expected: int
    visible: int
    missing: int
    unexpected: int
    duplicate: int
    unordered: int
    worst: float

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.unexpected or self.duplicate or self.unordered) and self.worst <= TOLERANCE

    def __str__(self) -> str:
        return (
            f"expected={self.expected} visible={self.visible} missing={self.missing} unexpected={self.unexpected} "
            f"duplicate={self.duplicate} unordered={self.unordered} worst={self.worst:.1e}"
        )


def judge(bootstrap: str, input_topic: str, output_topic: str, model: OnnxModel, **events: object) -> Verdict:
    """Hold the output against the input; keyword arguments are `expected_forecasts`'s."""
    return compare(bootstrap, output_topic, expected_forecasts(bootstrap, input_topic, model, **events))


def compare(bootstrap: str, output_topic: str, expected: dict[str, np.ndarray]) -> Verdict:
    """Hold the output against the forecasts that should be in it."""
    visible: dict[str, np.ndarray] = {}
    count: Counter[str] = Counter()
    last: dict[int, int] = {}
    unordered = 0
    for record in read_committed(bootstrap, output_topic):
        forecast = json.loads(record.value)
        offset = int(forecast["id"].rsplit("-", 1)[1])
        unordered += offset <= last.get(record.partition, -1)
        last[record.partition] = offset
        count[forecast["id"]] += 1
        visible[forecast["id"]] = np.array(list(forecast["quantiles"].values())).T
    shared = expected.keys() & visible.keys()
    return Verdict(
        expected=len(expected),
        visible=sum(count.values()),
        missing=len(expected.keys() - visible.keys()),
        unexpected=len(visible.keys() - expected.keys()),
        duplicate=sum(n - 1 for n in count.values()),
        unordered=unordered,
        worst=max(
            (float(np.abs(visible[i] - expected[i]).max() / np.abs(expected[i]).max()) for i in shared), default=0.0
        ),
    )


def expected_forecasts(
    bootstrap: str,
    topic: str,
    model: OnnxModel,
    idle_slots: int | None = None,
    keep: Callable[[Any], bool] = lambda record: True,
    **events: object,
) -> dict[str, np.ndarray]:
    """The forecasts (H, Q) of every accepted event in a topic, by id, from one engine fed in one go.

    keep  which records it is fed
    """
    engine = new_engine(model, max_streams=1_000_000, **events)
    engine.grid = replace(engine.grid, idle_slots=idle_slots)
    by_partition: dict[int, list[object]] = {}
    for record in read_committed(bootstrap, topic):
        if keep(record):
            by_partition.setdefault(record.partition, []).append(record)
    found: dict[str, np.ndarray] = {}
    for number, records in sorted(by_partition.items()):
        for at in range(0, len(records), 10_000):
            seen, _ = run(engine, _columns(Partition(topic, number), records[at : at + 10_000]))
            found.update((s.id, s.quantiles) for s in seen)
    return found


def _columns(partition: Partition, records: Sequence[object]) -> Records:
    return Records(
        partition,
        [r.offset for r in records],
        [r.timestamp for r in records],
        [r.key for r in records],
        [r.value for r in records],
    )
