"""What is kept of the streams: in memory, in changelogs, and back from there."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streamer.adapters.metrics.partitions import PartitionGauge
from streamer.core.events import Partition

RESET_REASONS = ("not_finite", "other_model", "corrupt", "input_truncated")
RESTORE_BUCKETS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class StateMetrics:
    """Streams held, snapshots written, and restores.

    max_streams  the most that may be held
    """

    def __init__(self, registry: CollectorRegistry, max_streams: int) -> None:
        self._streams = Gauge("streamer_active_streams", "Streams whose state is held in memory.", registry=registry)
        Gauge("streamer_max_streams", "Most streams that may be held: state.max_streams.", registry=registry).set(
            max_streams
        )
        self._arena_bytes = Gauge(
            "streamer_arena_bytes", "Memory of the active streams' states, in bytes.", registry=registry
        )
        resets = Counter("streamer_state_resets_total", "Streams started fresh, by why.", ["reason"], registry=registry)
        self._resets = {reason: resets.labels(reason) for reason in RESET_REASONS}
        self._dirty = Gauge("streamer_dirty_streams", "Streams changed since their last snapshot.", registry=registry)
        self._low_water = PartitionGauge(
            "streamer_low_water_distance_records",
            "Records that a restart would replay: between the low-water mark and the committed position.",
            registry,
        )
        self._declare_snapshots(registry)

    def _declare_snapshots(self, registry: CollectorRegistry) -> None:
        self._snapshots = Counter(
            "streamer_snapshots_written_total", "Snapshots of streams written to changelogs.", registry=registry
        )
        self._snapshot_bytes = Counter(
            "streamer_snapshot_bytes_total", "Bytes of these snapshots, before compression.", registry=registry
        )
        self._restoring = Gauge(
            "streamer_restoring_partitions", "Assigned partitions that are not restored yet.", registry=registry
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
        self._rebuilt = Counter(
            "streamer_streams_rebuilt_total", "Streams built anew from the input in restores.", registry=registry
        )

        self._lost = Counter(
            "streamer_input_lost_records_total",
            "Records of the input that were deleted before they were read; markers are counted in.",
            registry=registry,
        )

    def held(self, streams: int, arena_bytes: int) -> None:
        """So many streams are held now."""
        self._streams.set(streams)
        self._arena_bytes.set(arena_bytes)

    def reset(self, reason: str, streams: int) -> None:
        """So many streams started fresh; one of RESET_REASONS."""
        self._resets[reason].inc(streams)

    def rebuilt(self, streams: int) -> None:
        """So many streams were built anew from the input, their snapshots being of no use."""
        self._rebuilt.inc(streams)

    def input_lost(self, records: int) -> None:
        """So many records of the input were deleted before anybody read them."""
        self._lost.inc(records)

    def snapshots_written(self, snapshots: int, size: int) -> None:
        """So many snapshots of so many bytes were committed."""
        self._snapshots.inc(snapshots)
        self._snapshot_bytes.inc(size)

    def dirty(self, streams: int, distances: Mapping[Partition, int]) -> None:
        """Streams changed since their snapshot, and by partition what a restart would replay."""
        self._dirty.set(streams)
        self._low_water.show(distances)

    def restoring(self, partitions: int) -> None:
        """So many partitions are being restored, or wait for it."""
        self._restoring.set(partitions)

    def restored(self, seconds: float, snapshots: int, replayed: int) -> None:
        """A partition is live again."""
        self._restore_seconds.observe(seconds)
        self._restored_snapshots.inc(snapshots)
        self._replayed.inc(replayed)
