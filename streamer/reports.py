"""What the daemon tells of its work in metrics and lines: nothing here changes what it does."""

from collections.abc import Callable, Collection, Sequence
from itertools import compress

import numpy as np

from streamer.adapters.metrics import Metrics
from streamer.checkpoint import Part
from streamer.core.engine import Engine
from streamer.core.events import Records
from streamer.core.forecasts import Outcome, Reset
from streamer.logs import log
from streamer.restores import Restored
from streamer.tasks import Phase, Task

MEASURE_SECONDS = 1.0  # between looks at the dirty streams
MAX_LOGGED_STREAMS = 1000  # resets beyond are counted only


class Reports:
    """Told by the loop what happened.

    wall_ms  milliseconds since the epoch
    now      seconds of the loop's clock
    """

    def __init__(self, metrics: Metrics, engine: Engine, wall_ms: Callable[[], int], now: float) -> None:
        self._metrics = metrics
        self._engine = engine
        self._wall_ms = wall_ms
        self._measure_again = now
        self._reset_streams: set[tuple[str, int, str]] = set()

    def advanced(self, batch: Sequence[Records], outcome: Outcome) -> None:
        """A batch, and what became of it."""
        split: set[tuple[str, str]] = set()  # ids begun here while another partition has them
        for forecasts in outcome.forecasts:
            if forecasts.born.any():
                partition, born = forecasts.records.partition, compress(forecasts.stream, forecasts.born.tolist())
                split |= {(partition.topic, s) for s in self._engine.also_elsewhere(partition, list(born))}
        self._metrics.events.split(len(split))
        self._metrics.assignment.read(batch)
        self._metrics.events.batch_advanced(outcome)
        self._metrics.state.reset("not_finite", len(outcome.resets))
        for reset in outcome.resets:
            self._log_once(reset)

    def committed(self, parts: Sequence[Part], seconds: float) -> None:
        """Shares that are committed for certain, and what the attempt took."""
        times = np.concatenate([part.record_times for part in parts])
        letters = sum(part.dead_letters for part in parts)
        self._metrics.delivery.committed(times, letters, seconds, self._wall_ms())
        self._metrics.state.snapshots_written(sum(p.snapshots for p in parts), sum(p.snapshot_bytes for p in parts))

    def restored(self, restored: Restored) -> None:
        """A partition is restored, and served from now on."""
        self._metrics.state.restored(restored.seconds, restored.snapshots, restored.replayed)
        log(
            "partition_restored",
            partition=restored.task.name,
            streams=len(self._engine.rows(restored.task.partition)),
            replayed=restored.replayed,
            seconds=restored.seconds,
        )

    def streams(self, restoring: int) -> None:
        """Streams that are held, and partitions that are being restored."""
        arena = self._engine.arena
        self._metrics.state.held(len(arena), len(arena) * arena.bytes_per_stream)
        self._metrics.state.restoring(restoring)

    def dirty(self, tasks: Collection[Task], now: float) -> None:
        """What a restart would replay, looked at now and then: it takes a look at every stream."""
        if now < self._measure_again:
            return
        self._measure_again = now + MEASURE_SECONDS
        running = [task for task in tasks if task.phase is Phase.RUNNING]
        distances = {task.partition: task.position - task.low_water() for task in running}
        self._metrics.state.dirty(self._engine.arena.dirty, distances)

    def _log_once(self, reset: Reset) -> None:
        topic, number = reset.partition
        stream = (topic, number, reset.stream)
        if stream not in self._reset_streams and len(self._reset_streams) < MAX_LOGGED_STREAMS:
            self._reset_streams.add(stream)
            log("state_reset", partition=f"{topic}-{number}", stream=reset.stream, step_time=reset.time)
