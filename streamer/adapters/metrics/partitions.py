"""A gauge with one value for each partition, gone when the partition is."""

from collections.abc import Collection, Mapping

from prometheus_client import CollectorRegistry, Gauge

from streamer.core.events import Partition


class PartitionGauge:
    """Values by topic and partition, of those partitions only that were named last."""

    def __init__(self, name: str, documentation: str, registry: CollectorRegistry) -> None:
        self._gauge = Gauge(name, documentation, ["topic", "partition"], registry=registry)
        self._shown: set[Partition] = set()

    def show(self, values: Mapping[Partition, float]) -> None:
        """These are the values now, all of them."""
        self.keep(values)
        for partition, value in values.items():
            self._gauge.labels(partition.topic, partition.number).set(value)
        self._shown = set(values)

    def keep(self, partitions: Collection[Partition]) -> None:
        """Forget the partitions that are not among these."""
        for partition in self._shown.difference(partitions):
            self._gauge.remove(partition.topic, partition.number)
        self._shown.intersection_update(partitions)
