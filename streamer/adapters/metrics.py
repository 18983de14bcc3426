"""What an operator can measure: Prometheus metrics of one process, in a registry of their own.

The daemon says what happened (`batch_advanced`, `committed`, …) and this module knows which numbers that
moves. No label names a stream: their number is not bounded. `docs/metrics.md` lists every metric.
"""

import platform
import time
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from threading import Lock

import numpy as np
import numpy.typing as npt
import onnxruntime
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

import streamer
from streamer.core.contract import Block, Manifest
from streamer.core.events import NO_TIMESTAMP, REASONS, Partition
from streamer.core.forecasts import Outcome

TRANSACTION_RESULTS = ("committed", "aborted", "refused", "unknown", "recovered")
UNUSED_REASONS = ("foreign", "corrupt", "truncated")
Milliseconds = npt.NDArray[np.int64]

INFERENCE_BUCKETS = (
    0.0002,
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    1.0,
)  # fine around one block's 5 ms
DELAY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0)  # the last two: a backlog
COMMIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
RESTORE_BUCKETS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
BATCH_BUCKETS = (1, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
ROW_BUCKETS = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384)
STEP_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class BatchHistogram(Collector):
    """A histogram that counts a whole array at once: 10,000 events cost one numpy pass, not 10,000 calls."""

    def __init__(self, name: str, documentation: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._documentation = name, documentation
        self._bounds = np.array(buckets, float)
        self._counts = np.zeros(len(buckets) + 1, np.int64)
        self._sum = 0.0
        self._lock = Lock()  # a scrape reads from another thread
        registry.register(self)

    def observe_many(self, values: npt.ArrayLike) -> None:
        """Count each value in the first bucket whose bound is not below it."""
        observed = np.asarray(values, float)
        slots = np.searchsorted(self._bounds, observed, side="left")
        counts = np.bincount(slots, minlength=len(self._counts))
        with self._lock:
            self._counts += counts
            self._sum += float(observed.sum())

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            cumulative, total = np.cumsum(self._counts).tolist(), self._sum
        bounds = [*map(str, self._bounds.tolist()), "+Inf"]
        yield HistogramMetricFamily(self._name, self._documentation, list(zip(bounds, cumulative, strict=True)), total)


class Metrics:
    """Every metric of one process.

    clock  seconds that never go back, for the time since the loop's last progress
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # a second series for every counter, saying when this process first counted, would help nobody
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._clock = clock
        self._last_progress = clock()
        self._lag_of: set[Partition] = set()
        self._distance_of: set[Partition] = set()
        ProcessCollector(registry=self.registry)
        self._declare_events(self.registry)
        self._declare_model(self.registry)
        self._declare_kafka(self.registry)
        self._declare_state(self.registry)
        self._declare_process(self.registry)

    def _declare_events(self, registry: CollectorRegistry) -> None:
        self._consumed = Counter(
            "streamer_records_consumed_total",
            "Records read from the input: accepted and rejected events together.",
            registry=registry,
        )
        self._accepted = Counter(
            "streamer_events_accepted_total", "Events that moved their stream forward.", registry=registry
        )
        rejected = Counter(
            "streamer_events_rejected_total", "Records not used, by reason.", ["reason"], registry=registry
        )
        self._rejected = {reason: rejected.labels(reason) for reason in REASONS}
        self._batch_records = Histogram(
            "streamer_batch_records",
            "Records of one batch, the events of one poll.",
            buckets=BATCH_BUCKETS,
            registry=registry,
        )
        self._streams = Gauge("streamer_active_streams", "Streams whose state is held in memory.", registry=registry)
        self._arena_bytes = Gauge(
            "streamer_arena_bytes", "Memory of the active streams' states, in bytes.", registry=registry
        )
        self._resets = Counter(
            "streamer_state_resets_total",
            "Streams started fresh because their state was no longer finite.",
            registry=registry,
        )

    def _declare_model(self, registry: CollectorRegistry) -> None:
        self._model_calls = Counter(
            "streamer_model_calls_total", "Blocks advanced, one model call each.", registry=registry
        )
        self._inference = Histogram(
            "streamer_inference_seconds",
            "Wall time of one block through the model, host-device copies included.",
            buckets=INFERENCE_BUCKETS,
            registry=registry,
        )
        self._block_rows = Histogram(
            "streamer_block_rows", "Streams in one block (B).", buckets=ROW_BUCKETS, registry=registry
        )
        self._block_steps = Histogram(
            "streamer_block_steps", "Steps of a block's longest row (T).", buckets=STEP_BUCKETS, registry=registry
        )
        self._model_steps = Counter(
            "streamer_model_steps_total", "Steps streams advanced by, missing steps included.", registry=registry
        )
        self._padding_steps = Counter(
            "streamer_padding_steps_total", "Steps computed in blocks only to fill shorter rows.", registry=registry
        )
        self._model = Info("streamer_model", "The model that forecasts.", registry=registry)

    def _declare_kafka(self, registry: CollectorRegistry) -> None:
        self._published = Counter(
            "streamer_forecasts_published_total", "Forecasts published and committed.", registry=registry
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
        self._lag = Gauge(
            "streamer_consumer_lag_records",
            "Records between an assigned partition's position and its end.",
            ["topic", "partition"],
            registry=registry,
        )
        self._partitions = Gauge(
            "streamer_assigned_partitions", "Input partitions this process serves.", registry=registry
        )

    def _declare_state(self, registry: CollectorRegistry) -> None:
        self._snapshots = Counter(
            "streamer_snapshots_written_total", "Snapshots of streams written to changelogs.", registry=registry
        )
        self._snapshot_bytes = Counter(
            "streamer_snapshot_bytes_total", "Bytes of these snapshots, before compression.", registry=registry
        )
        self._dirty = Gauge("streamer_dirty_streams", "Streams changed since their last snapshot.", registry=registry)
        self._low_water = Gauge(
            "streamer_low_water_distance_records",
            "Records that a restart would replay: between the low-water mark and the committed position.",
            ["topic", "partition"],
            registry=registry,
        )
        self._restore_seconds = Histogram(
            "streamer_restore_seconds",
            "From a partition's assignment to its first poll.",
            buckets=RESTORE_BUCKETS,
            registry=registry,
        )
        self._restored_snapshots = Counter(
            "streamer_restored_snapshots_total", "Snapshots taken over from changelogs.", registry=registry
        )
        self._replayed = Counter(
            "streamer_replayed_records_total", "Input records replayed silently in restores.", registry=registry
        )
        unused = Counter(
            "streamer_snapshots_unused_total",
            "Streams started fresh in a restore, by why their snapshot was of no use.",
            ["reason"],
            registry=registry,
        )
        self._unused = {reason: unused.labels(reason) for reason in UNUSED_REASONS}
        self._rebalances = Counter(
            "streamer_rebalances_total", "Changes of the partitions this process serves.", registry=registry
        )
        self._fencings = Counter(
            "streamer_fencings_total", "Times a successor shut this process out; it ends then.", registry=registry
        )

    def _declare_process(self, registry: CollectorRegistry) -> None:
        since = Gauge(
            "streamer_since_progress_seconds",
            "Time since the loop last turned, with or without events.",
            registry=registry,
        )
        since.set_function(self.seconds_since_progress)
        Info("streamer_build", "Versions of this process.", registry=registry).info(
            {
                "version": streamer.__version__,
                "python": platform.python_version(),
                "onnxruntime": onnxruntime.__version__,
            }
        )

    def serving(self, manifest: Manifest, fingerprint: str, providers: Sequence[str]) -> None:
        """The model was loaded."""
        self._model.info(
            {
                "name": manifest.name,
                "version": manifest.version,
                "fingerprint": fingerprint,
                "providers": ",".join(providers),
                "cell": manifest.cell,
                "horizon": str(manifest.horizon),
            }
        )

    def progressed(self) -> None:
        """The loop turned."""
        self._last_progress = self._clock()

    def seconds_since_progress(self) -> float:
        """Seconds since the loop last turned."""
        return self._clock() - self._last_progress

    def batch_advanced(self, outcome: Outcome, streams: int, arena_bytes: int) -> None:
        """A batch went through the engine, which now holds so many streams."""
        consumed = sum(len(f.records) for f in outcome.forecasts)
        self._consumed.inc(consumed)
        self._batch_records.observe(consumed)
        self._accepted.inc(sum(map(len, outcome.forecasts)))
        for reason, count in Tally(r.reason for f in outcome.forecasts for r in f.rejected).items():
            self._rejected[reason].inc(count)
        self._resets.inc(len(outcome.resets))
        self._streams.set(streams)
        self._arena_bytes.set(arena_bytes)

    def streams_released(self, streams: int, arena_bytes: int) -> None:
        """Partitions went away with their streams; so many are left."""
        self._streams.set(streams)
        self._arena_bytes.set(arena_bytes)

    def block_advanced(self, block: Block, seconds: float) -> None:
        """One model call advanced a block."""
        rows, steps = block.time.shape
        real = int(block.length.sum())
        self._model_calls.inc()
        self._inference.observe(seconds)
        self._block_rows.observe(rows)
        self._block_steps.observe(steps)
        self._model_steps.inc(real)
        self._padding_steps.inc(rows * steps - real)

    def committed(self, record_times: Milliseconds, dead_letters: int, seconds: float, now_ms: int) -> None:
        """Output and offsets are durable.

        record_times  (n,)  Kafka timestamp of each forecast's record, epoch milliseconds, or NO_TIMESTAMP
        seconds             the commit's wall time
        now_ms              the wall clock after it, epoch milliseconds
        """
        self._commit_seconds.observe(seconds)
        self._published.inc(len(record_times))
        self._dead_letters.inc(dead_letters)
        known = record_times[record_times != NO_TIMESTAMP]
        self._delay.observe_many(np.maximum(now_ms - known, 0) / 1000)

    def transaction(self, result: str) -> None:
        """An attempt at a transaction ended; one of TRANSACTION_RESULTS."""
        self._transactions[result].inc()

    def snapshots_written(self, snapshots: int, size: int) -> None:
        """So many snapshots of so many bytes were committed."""
        self._snapshots.inc(snapshots)
        self._snapshot_bytes.inc(size)

    def dirty(self, streams: int, distances: Mapping[Partition, int]) -> None:
        """Streams changed since their snapshot, and by partition what a restart would replay."""
        self._dirty.set(streams)
        for partition in self._distance_of - distances.keys():
            self._low_water.remove(partition.topic, partition.number)
        for partition, records in distances.items():
            self._low_water.labels(partition.topic, partition.number).set(records)
        self._distance_of = set(distances)

    def restored(self, seconds: float, snapshots: int, replayed: int) -> None:
        """A partition is live again."""
        self._restore_seconds.observe(seconds)
        self._restored_snapshots.inc(snapshots)
        self._replayed.inc(replayed)

    def snapshots_unused(self, reason: str, streams: int) -> None:
        """Streams start fresh because their snapshots were of no use; one of UNUSED_REASONS."""
        self._unused[reason].inc(streams)

    def rebalanced(self) -> None:
        """Partitions came or went."""
        self._rebalances.inc()

    def fenced(self) -> None:
        """A successor has shut this process out."""
        self._fencings.inc()

    def assigned(self, partitions: Collection[Partition]) -> None:
        """These are the partitions the process serves now, all of them; the lag of others is gone."""
        self._partitions.set(len(partitions))
        self._forget_lag(self._lag_of - set(partitions))

    def lag_seen(self, lag: Mapping[Partition, int]) -> None:
        """Records that every assigned partition is behind its end."""
        self._forget_lag(self._lag_of - lag.keys())
        for partition, records in lag.items():
            self._lag.labels(partition.topic, partition.number).set(records)
        self._lag_of |= lag.keys()

    def _forget_lag(self, partitions: Collection[Partition]) -> None:
        for partition in partitions:
            self._lag.remove(partition.topic, partition.number)
        self._lag_of -= set(partitions)
