"""What went out: transactions, forecasts and the time they took."""

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streamer.adapters.metrics.histogram import BatchHistogram
from streamer.core.events import NO_TIMESTAMP

TRANSACTION_RESULTS = ("committed", "aborted", "refused", "unknown", "recovered")
DELAY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0)  # the last two: a backlog
COMMIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
Milliseconds = npt.NDArray[np.int64]


class DeliveryMetrics:
    """Counts of what became visible, and of the attempts at it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._published = Counter(
            "streamer_forecasts_published_total", "Forecasts published and committed.", registry=registry
        )
        self._last_forecast = Gauge(
            "streamer_last_forecast_timestamp_seconds",
            "When forecasts were committed last, Unix time; 0 before the first ones of this process.",
            registry=registry,
        )
        self._dead_letters = Counter(
            "streamer_dead_letters_published_total", "Rejected records published as dead letters.", registry=registry
        )
        self._delay = BatchHistogram(
            "streamer_end_to_end_seconds",
            "From a record's Kafka timestamp to the commit of its forecast; a clock that runs ahead counts as 0.",
            DELAY_BUCKETS,
            registry,
        )
        transactions = Counter(
            "streamer_transactions_total",
            "Attempts at transactions of output, snapshots and positions, by what became of them.",
            ["result"],
            registry=registry,
        )
        self._transactions = {result: transactions.labels(result) for result in TRANSACTION_RESULTS}
        self._commit_seconds = Histogram(
            "streamer_commit_seconds", "Wall time of one committed attempt.", buckets=COMMIT_BUCKETS, registry=registry
        )
        self._fencings = Counter(
            "streamer_fencings_total", "Times a successor shut this process out; it ends then.", registry=registry
        )

    def committed(self, record_times: Milliseconds, dead_letters: int, seconds: float, now_ms: int) -> None:
        """Output and offsets are durable.

        record_times  (n,)  Kafka timestamp of each forecast's record, epoch milliseconds, or NO_TIMESTAMP
        seconds             the commit's wall time
        now_ms              the wall clock after it, epoch milliseconds
        """
        self._commit_seconds.observe(seconds)
        self._published.inc(len(record_times))
        if len(record_times):
            self._last_forecast.set(now_ms / 1000)
        self._dead_letters.inc(dead_letters)
        known = record_times[record_times != NO_TIMESTAMP]
        self._delay.observe_many(np.maximum(now_ms - known, 0) / 1000)

    def transaction(self, result: str) -> None:
        """An attempt at a transaction ended; one of TRANSACTION_RESULTS."""
        self._transactions[result].inc()

    def fenced(self) -> None:
        """A successor has shut this process out."""
        self._fencings.inc()
