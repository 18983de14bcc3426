"""What readers of the output have seen: nothing missing, nothing twice, across a change of the model; and for how long
each partition stood still."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from kafka.consumer.fetcher import ConsumerRecord

from streamer.adapters.onnx_session import OnnxModel
from tests.chaos.oracle import Life, Verdict, expected_forecasts, judge
from tests.integration.records import read_committed


def judge_change(bootstrap: str, input_topic: str, output_topic: str, models: Sequence[Path]) -> Verdict:
    """Hold the output against two uninterrupted runs, the second of the newer model from its first forecast on.

    A change of the model begins every stream anew. Where it took place, by partition, is what the output itself says;
    an event before that must have the old model's forecast, or none that it would not have had.
    """
    old, new = models
    records, output = read_committed(bootstrap, input_topic), read_committed(bootstrap, output_topic)
    begins = _first_offsets(output, OnnxModel(new).manifest.model_id)
    changed = [record for record in records if record.partition in begins]
    lives = {record.key: [Life(0, old), Life(begins[record.partition], new)] for record in changed}
    return judge(output, expected_forecasts(records, old, lives))


def _first_offsets(forecasts: Sequence[ConsumerRecord], model: str) -> dict[int, int]:
    """Each partition's first input offset that a model has answered."""
    found: dict[int, int] = {}
    for record in forecasts:
        forecast = json.loads(record.value)
        if forecast["model"] == model:
            found.setdefault(record.partition, int(forecast["id"].rsplit("-", 1)[1]))
    return found


@dataclass(frozen=True)
class Phase:
    """Something done to the cluster, and when: from before it until all was served again; epoch milliseconds."""

    name: str
    begin_ms: int
    end_ms: int


def gaps_seconds(forecasts: Sequence[ConsumerRecord], phase: Phase) -> dict[int, float]:
    """The longest time between two forecasts of each partition, of which one at least lies in the phase.

    By the times at which the forecasts were handed to Kafka; readers see them with their transaction, a commit later.
    """
    by_partition: dict[int, list[int]] = {}
    for record in forecasts:
        by_partition.setdefault(record.partition, []).append(record.timestamp)
    found: dict[int, float] = {}
    for partition, times in by_partition.items():
        pairs = pairwise(times)
        within = [b - a for a, b in pairs if b >= phase.begin_ms and a <= phase.end_ms]
        found[partition] = max(within, default=0) / 1000
    return found


def summary(gaps: Mapping[int, float]) -> str:
    """Median and largest gap over the partitions."""
    return f"gap per partition p50 {statistics.median(gaps.values()):.1f} s, max {max(gaps.values()):.1f} s"
