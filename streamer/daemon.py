"""The daemon's life, top to bottom: start → poll, advance, commit … → drain → stop.

    client.poll ─► engine.advance ─► Pending ─► client.commit, every delivery.commit_interval_seconds

The loop is one thread. It owns the engine and the client; HTTP threads only read its metrics and checks.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event

from streamer.adapters.metrics import Metrics
from streamer.core.engine import Engine
from streamer.core.events import Partition, Records
from streamer.core.forecasts import Outcome, Reset
from streamer.delivery import KafkaClient
from streamer.logs import log
from streamer.pending import Pending

MAX_BATCH_RECORDS = 10_000
MAX_PENDING_RECORDS = 20_000  # commit before the interval is over: bounds memory under a backlog
IDLE_POLL_SECONDS = 0.5  # how long a stop signal may go unnoticed
HEALTHY_SECONDS = 60.0  # without a turn of the loop; the group would have given our partitions away by then
LAG_SECONDS = 5.0
MAX_LOGGED_STREAMS = 1000  # resets beyond are counted only


@dataclass(frozen=True)
class Clocks:
    """Time as the daemon sees it: seconds that never go back, and seconds since the epoch."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class Daemon:
    """Forecasts what a Kafka client delivers until it is told to stop."""

    def __init__(
        self,
        engine: Engine,
        client: KafkaClient,
        pending: Pending,
        metrics: Metrics,
        commit_interval_seconds: float,
        clocks: Clocks = Clocks(),
    ) -> None:
        self._engine = engine
        self._client = client
        self._pending = pending
        self._metrics = metrics
        self._interval = commit_interval_seconds
        self._clocks = clocks
        self._partitions: frozenset[Partition] = frozenset()
        self._last_commit = self._last_lag = clocks.monotonic()
        self._reset_streams: set[tuple[Partition, str]] = set()

    def run(self, stop: Event) -> None:
        """Serve until `stop` is set, then finish what was read.

        Raises ConfigError where a topic or the broker is not there at the start.
        """
        self._client.start(on_revoke=self._commit)
        log("started", model=self._engine.model.manifest.model_id)
        try:
            while not stop.is_set():
                self._turn()
            self._commit()
        finally:
            self._client.close()
        log("stopped")

    def healthy(self) -> tuple[bool, str]:
        """Whether the loop makes progress. A broker that is away does not make it unhealthy."""
        idle = self._metrics.seconds_since_progress()
        return idle < HEALTHY_SECONDS, f"the loop last turned {idle:.1f} s ago"

    def ready(self) -> tuple[bool, str]:
        """Whether events of assigned partitions are being read."""
        count = len(self._partitions)
        return count > 0, f"{count} partitions assigned"

    def _turn(self) -> None:
        """Once around the loop."""
        batch = self._client.poll(self._patience(), MAX_BATCH_RECORDS)
        self._rebalance()
        if batch:
            self._advance(batch)
        if self._pending and (self._patience() == 0 or self._pending.records >= MAX_PENDING_RECORDS):
            self._commit()
        self._watch_lag()
        self._metrics.progressed()

    def _patience(self) -> float:
        """Seconds a poll may wait: until the next commit is due, if there is anything to commit."""
        if not self._pending:
            return IDLE_POLL_SECONDS
        return min(IDLE_POLL_SECONDS, max(0.0, self._last_commit + self._interval - self._clocks.monotonic()))

    def _rebalance(self) -> None:
        """Forget the streams of partitions that went; those that came start at their committed offset."""
        change = self._client.rebalance()
        if change is None:
            return
        for partition in change.revoked:
            self._engine.release(partition)
        self._partitions = self._partitions.difference(change.revoked).union(change.assigned)
        self._metrics.assigned(self._partitions)
        self._metrics.streams_released(len(self._engine.arena), self._arena_bytes())

    def _advance(self, batch: Sequence[Records]) -> None:
        if not self._pending:
            self._last_commit = self._clocks.monotonic()  # the interval begins with the first event in it
        outcome = self._engine.advance(batch)
        self._pending.add(outcome)
        self._report(outcome)

    def _commit(self) -> None:
        """Make everything pending durable; also called before partitions are given away."""
        if not self._pending:
            return
        begun = self._clocks.monotonic()
        taken = self._pending.take()
        self._client.commit(taken.messages, taken.offsets)
        self._last_commit = self._clocks.monotonic()
        self._metrics.committed(
            taken.record_times, taken.dead_letters, self._last_commit - begun, round(self._clocks.wall() * 1000)
        )

    def _report(self, outcome: Outcome) -> None:
        self._metrics.batch_advanced(outcome, len(self._engine.arena), self._arena_bytes())
        for reset in outcome.resets:
            self._log_once(reset)

    def _log_once(self, reset: Reset) -> None:
        stream = (reset.partition, reset.stream)
        if stream not in self._reset_streams and len(self._reset_streams) < MAX_LOGGED_STREAMS:
            self._reset_streams.add(stream)
            topic, number = reset.partition
            log("state_reset", partition=f"{topic}-{number}", stream=reset.stream, step_time=reset.time)

    def _watch_lag(self) -> None:
        now = self._clocks.monotonic()
        if now - self._last_lag >= LAG_SECONDS:
            self._last_lag = now
            self._metrics.lag_seen(self._client.lag())

    def _arena_bytes(self) -> int:
        return len(self._engine.arena) * self._engine.arena.bytes_per_stream
