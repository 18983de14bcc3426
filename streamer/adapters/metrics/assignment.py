"""The partitions that this process serves, and how far behind their ends it is."""

from collections.abc import Collection, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from streamer.adapters.metrics.partitions import PartitionGauge
from streamer.core.events import NO_TIMESTAMP, Partition, Records


class AssignmentMetrics:
    """What the group gave this process, and its lag in records and in seconds."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._partitions = Gauge(
            "streamer_assigned_partitions", "Input partitions this process serves.", registry=registry
        )
        self._rebalances = Counter(
            "streamer_rebalances_total", "Changes of the partitions this process serves.", registry=registry
        )
        self._lag = PartitionGauge(
            "streamer_consumer_lag_records",
            "Records between an assigned partition's position and its end.",
            registry,
        )
        self._age = PartitionGauge(
            "streamer_consumer_lag_seconds",
            "Age of the last record read of an assigned partition while more wait; 0 while none does. "
            "Absent until this process has read one.",
            registry,
        )
        self._read_ms: dict[Partition, int] = {}  # timestamp of each partition's last record

    def rebalanced(self, partitions: Collection[Partition]) -> None:
        """Partitions came or went: these are the process's now, all of them; nothing is known of others any more."""
        self._rebalances.inc()
        self._partitions.set(len(partitions))
        self._lag.keep(partitions)
        self._age.keep(partitions)
        self._read_ms = {p: read for p, read in self._read_ms.items() if p in partitions}

    def read(self, batch: Iterable[Records]) -> None:
        """These records were read."""
        for records in batch:
            if records.timestamps and records.timestamps[-1] != NO_TIMESTAMP:
                self._read_ms[records.partition] = records.timestamps[-1]

    def lag_seen(self, lag: Mapping[Partition, int], now_ms: int) -> None:
        """Records that every assigned partition is behind its end; the wall clock, epoch milliseconds."""
        self._lag.show(lag)
        read = {p: self._read_ms[p] for p in lag if p in self._read_ms}
        self._age.show({p: max(0, now_ms - at) / 1000 if lag[p] else 0.0 for p, at in read.items()})
