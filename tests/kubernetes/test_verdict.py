"""How a partition's standstill is measured, and where a change of the model is found."""

import json
from dataclasses import dataclass

from tests.kubernetes.verdict import Phase, _first_offsets, gaps_seconds, summary


@dataclass
class Seen:
    """A forecast as a reader sees it."""

    partition: int
    timestamp: int
    model: str = "gru@1"
    offset: int = 0

    @property
    def value(self) -> bytes:
        return json.dumps({"model": self.model, "id": f"events-{self.partition}-{self.offset}"}).encode()


def test_a_gap_is_the_longest_pause_that_touches_the_phase():
    forecasts = [Seen(0, t) for t in (0, 9_000, 10_000, 14_000, 20_000, 40_000)]
    forecasts += [Seen(1, t) for t in (9_500, 10_500, 11_000, 20_500)]
    gaps = gaps_seconds(forecasts, Phase("restart", 12_000, 15_000))
    assert gaps == {0: 6.0, 1: 9.5}
    assert summary(gaps) == "gap per partition p50 7.8 s, max 9.5 s"


def test_the_new_model_begins_in_each_partition_with_its_first_forecast():
    forecasts = [Seen(0, 0, "gru@1", 4), Seen(0, 0, "gru@2", 7), Seen(0, 0, "gru@2", 8), Seen(1, 0, "gru@1", 9)]
    assert _first_offsets(forecasts, "gru@2") == {0: 7}
