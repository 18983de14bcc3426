"""What came in: records, and what became of them."""

from collections import Counter as Tally

from prometheus_client import CollectorRegistry, Counter, Histogram

from streamer.core.events import REASONS
from streamer.core.forecasts import Outcome

BATCH_BUCKETS = (1, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)


class EventMetrics:
    """Counts of records, by their fate."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._consumed = Counter(
            "streamer_records_consumed_total",
            "Records read from the input: accepted and rejected events together.",
            registry=registry,
        )
        self._accepted = Counter(
            "streamer_events_accepted_total", "Events that moved their stream forward.", registry=registry
        )
        self._cold = Counter(
            "streamer_forecasts_cold_total",
            'Forecasts of streams that have not had the model\'s warm-up yet, marked "warm": false.',
            registry=registry,
        )
        rejected = Counter(
            "streamer_events_rejected_total", "Records not used, by reason.", ["reason"], registry=registry
        )
        self._rejected = {reason: rejected.labels(reason) for reason in REASONS}
        self._split = Counter(
            "streamer_streams_split_total",
            "Streams begun in one partition while another of the same topic, in this process, had one of that id.",
            registry=registry,
        )
        self._batch_records = Histogram(
            "streamer_batch_records",
            "Records of one batch, the events of one poll.",
            buckets=BATCH_BUCKETS,
            registry=registry,
        )

    def split(self, streams: int) -> None:
        """So many streams began whose ids another partition has, too."""
        self._split.inc(streams)

    def batch_advanced(self, outcome: Outcome) -> None:
        """A batch went through the engine."""
        consumed = sum(len(f.records) for f in outcome.forecasts)
        self._consumed.inc(consumed)
        self._batch_records.observe(consumed)
        self._accepted.inc(sum(map(len, outcome.forecasts)))
        self._cold.inc(sum(len(f) - int(f.warm.sum()) for f in outcome.forecasts))
        for reason, count in Tally(r.reason for f in outcome.forecasts for r in f.rejected).items():
            self._rejected[reason].inc(count)
