"""The daemon's life, top to bottom: start → assign → restore → run → drain → stop.

    client.poll ─► engine.advance ─► Checkpoint ─► Committer, every delivery.commit_interval_seconds
                        └── what was read ahead, while brokers answer ──┘

The loop is one thread. It owns the engine, the tasks and the client; HTTP threads only read its metrics and checks.
A transaction's first attempt is made on another thread while the loop advances what it has read, which asks nothing of
Kafka, and waited for before the client is used again: what it sends was copied at its boundary. With a backlog, a batch
more is read beforehand, so that there is work until brokers have answered.
While the group takes partitions away, the client's own thread finishes the transaction at hand; the loop waits then.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from threading import Event

from streamer.adapters.metrics import Metrics
from streamer.admission import Admission
from streamer.batches import BatchLimit
from streamer.checkpoint import Checkpoint, Part
from streamer.committer import Attempt, Attempted, Committer, on_another_thread
from streamer.core.engine import Engine
from streamer.core.events import Partition, Records
from streamer.core.ledger import Ledger
from streamer.delivery import DeliveryError, FencedError, KafkaClient, NotNowError
from streamer.logs import log
from streamer.overtaking import Overtaking
from streamer.pace import Pace
from streamer.reports import Reports
from streamer.restore import Restore
from streamer.restores import Restores
from streamer.tasks import Phase, Task

MAX_PENDING_BYTES = 8 << 20  # commit before the interval is over: bounds memory, and what a slow network must take
IDLE_POLL_SECONDS = 0.5  # how long a stop signal may go unnoticed
RETRY_SECONDS = 0.2  # between attempts at one transaction
DRAIN_SECONDS = 10.0  # for the last transactions
HEALTHY_SECONDS = 60.0  # without a turn of the loop; the group would have given our partitions away by then
STALLED_SECONDS = 300.0  # refused by a group that answers: five poll intervals, in which any rebalance comes to an end


@dataclass(frozen=True)
class Clocks:
    """Time as the daemon sees it: seconds that never go back, and seconds since the epoch; and what goes on beside.

    beside   begins an attempt at a transaction, which the loop does not wait for; by default on another thread
    settled  called when partitions have gone, or all that came are restored
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    beside: Callable[[Callable[[], Attempted]], Attempt] = on_another_thread
    settled: Callable[[], None] = lambda: None


class Daemon:
    """Forecasts what a Kafka client delivers until it is told to stop.

    restoring  makes the `Restore` of a new task
    """

    def __init__(
        self,
        engine: Engine,
        client: KafkaClient,
        checkpoint: Checkpoint,
        restoring: Callable[[Task], Restore],
        metrics: Metrics,
        commit_interval_seconds: float,
        clocks: Clocks = Clocks(),
    ) -> None:
        self._engine = engine
        self._client = client
        self._checkpoint = checkpoint
        self._metrics = metrics
        self._clocks = clocks
        self._committer = Committer(client, metrics.delivery.transaction)
        self._overtaking = Overtaking(client.beginning, metrics.state.input_lost)
        self._tasks: dict[Partition, Task] = {}
        self._restores = Restores(restoring, clocks.monotonic)
        self._ahead: deque[list[Records]] = deque()  # batches that were read and not advanced yet
        self._sending: Attempt | None = None  # while it is, the client is not to be used
        self._admission = Admission()
        numbers = engine.model.manifest.horizon * len(engine.model.manifest.levels)
        self._limit = BatchLimit(numbers, engine.arena.bytes_per_stream)
        self.started = False  # before that, a signal may end the process at once
        self._pace = Pace(commit_interval_seconds, clocks.monotonic())
        self._reports = Reports(metrics, engine, self._now_ms, clocks.monotonic())

    def run(self, stop: Event) -> None:
        """Serve until `stop` is set, then commit what was advanced; what was read ahead the next run reads again.

        Raises ConfigError where a topic or the broker is not there at the start, StateError where saved state does
        not fit, and DeliveryError, FencedError among them, where Kafka takes nothing more from this process. Once it
        is to stop, only FencedError: what Kafka does not take then, the next run reads again.
        """
        try:
            self.start()
            while not stop.is_set():
                self.turn(stop)
            self.drain(stop)
        except FencedError:
            self._metrics.delivery.fenced()
            raise
        except DeliveryError as problem:
            if not stop.is_set():
                raise
            _cut_short(problem)
        finally:
            if self._sending is not None:
                with suppress(Exception):  # what is being raised says more
                    self._sending.result()  # the client is not closed under it
            self._client.close()
        log("stopped")

    def start(self) -> None:
        """Check what can be checked beforehand, and join the group."""
        self._client.start(on_revoke=self._on_revoke)
        self.started = True
        log("started", model=self._engine.model.manifest.model_id)

    def turn(self, stop: Event) -> None:
        """Once around the loop: a batch at most is advanced in it; a transaction is begun, or ended, or both."""
        delayed = False
        if self._sending is None:
            self._read(stop)
            delayed = bool(self._restores) and not self._restore()
            if self._is_due() and self._begin():
                self._sending = self._clocks.beside(self._attempt)
            elif self._ahead:
                self._advance(self._ahead.popleft())
        elif self._has_time(self._sending):
            self._advance(self._ahead.popleft())
        if self._sending is not None and not self._has_time(self._sending):
            self._finish(stop)
        self._metrics.process.turned()
        if self._sending is None:
            self._look(delayed)

    def drain(self, stop: Event) -> None:
        """The last transactions, with the snapshots that save the next run its replay."""
        deadline = self._clocks.monotonic() + DRAIN_SECONDS
        try:
            if self._sending is not None or self._committer.busy:
                self._finish(stop)
            while self._begin(everything=True):
                self._finish(stop)
                if self._clocks.monotonic() >= deadline:
                    break
        except FencedError:
            raise
        except DeliveryError as problem:
            _cut_short(problem)

    def healthy(self) -> tuple[bool, str]:
        """Whether the loop turns; not whether anything comes of it, which is the brokers' to answer for, too."""
        idle = self._metrics.process.seconds_since_turn()
        return idle < HEALTHY_SECONDS, f"the loop last turned {idle:.1f} s ago"

    def ready(self) -> tuple[bool, str]:
        """Whether this member has its partitions, restored: an assignment may be empty."""
        tasks = list(self._tasks.values())
        restoring = sum(task.phase is not Phase.RUNNING for task in tasks)
        return self._admission.joined and not restoring, f"{len(tasks)} partitions assigned, {restoring} being restored"

    def _read(self, stop: Event) -> None:
        """Read a batch if none is left, with a backlog one for the time of the transaction that begins now, too.

        And let the group rebalance, which may leave a transaction to be ended.
        """
        if not self._ahead:
            self._poll(self._patience())
        if len(self._ahead) == 1 and self._pace.behind and self._is_due():
            self._poll(0.0)
        self._rebalance()
        if self._committer.busy:  # begun when partitions were taken away
            self._finish(stop)

    def _poll(self, patience: float) -> None:
        batch = self._client.poll(patience, self._limit.records)
        if batch:
            self._ahead.append(batch)

    def _look(self, delayed: bool) -> None:
        """At how far the loop has come, and whether what it reads is still there."""
        lag = Counter(self._client.lag())
        for records in chain.from_iterable(self._ahead):
            lag[records.partition] += len(records)
        self._pace.behind = sum(lag.values()) > self._limit.records
        self._metrics.assignment.lag_seen(lag, self._now_ms())
        now = self._clocks.monotonic()
        self._reports.dirty(self._tasks.values(), now)
        self._overtaking.look(now)
        if self._admission.look(bool(self._tasks), self._client.is_member, now) and not delayed:  # else it waits
            self._metrics.process.progressed()

    def _is_due(self) -> bool:
        """Whether a transaction begins now; one without output, where there is nothing to advance."""
        if self._checkpoint.bytes >= MAX_PENDING_BYTES:
            return True
        waiting = self._checkpoint.records or not self._ahead
        return bool(waiting) and not self._pace.left(self._clocks.monotonic())

    def _has_time(self, sending: Attempt) -> bool:
        """Whether there is a batch to advance while brokers answer."""
        return bool(self._ahead) and not sending.done() and self._checkpoint.bytes < MAX_PENDING_BYTES

    def _patience(self) -> float:
        """Seconds a poll may wait: not at all while there is something to restore, else until a commit is due."""
        if self._restores:
            return 0.0
        if not self._checkpoint.records:
            return IDLE_POLL_SECONDS
        return min(IDLE_POLL_SECONDS, self._pace.left(self._clocks.monotonic()))

    def _rebalance(self) -> None:
        """End the tasks of partitions that went; begin tasks for those that came."""
        change = self._client.rebalance()
        if change is None:
            return
        for partition in change.revoked:
            self._close(partition)
        self._overtaking.end(change.revoked)
        for partition in change.assigned:
            task = self._tasks[partition] = Task(partition, Ledger(self._engine.arena))
            self._restores.add(task)
        self._metrics.assignment.rebalanced(self._tasks.keys())
        self._streams_moved()

    def _close(self, partition: Partition) -> None:
        task = self._tasks.pop(partition, None)
        if task is not None:
            task.move(Phase.CLOSED)
            self._checkpoint.close(task)
            self._restores.remove(task)
            self._engine.release(partition)
        self._drop_ahead(partition)

    def _drop_ahead(self, partition: Partition) -> None:
        """What was read ahead of a partition that goes is its next owner's, who may be us again."""
        kept = ([records for records in batch if records.partition != partition] for batch in self._ahead)
        self._ahead = deque(batch for batch in kept if batch)

    def _restore(self) -> bool:
        """A slice of what is to be restored; False when it got no further."""
        got_on, restored = self._restores.slice()
        if restored is not None:
            self._reports.restored(restored)
            self._streams_moved()
        return got_on

    def _advance(self, batch: Sequence[Records]) -> None:
        """Forecast records; those of a task that does not run are not ours to judge."""
        batch = [records for records in batch if self._runs(records.partition)]
        if not self._checkpoint.records:
            self._pace.begin(self._clocks.monotonic())  # the interval begins with the first event in it
        for records in batch:
            task = self._tasks[records.partition]
            self._overtaking.read(records, task.read_to)
            task.read_to = records.offsets[-1] + 1
        outcome = self._engine.advance(batch)
        self._limit.advanced(sum(map(len, batch)), outcome.steps)
        now = self._clocks.monotonic()
        for forecasts in outcome.forecasts:
            self._checkpoint.add(self._tasks[forecasts.records.partition], forecasts, now)
        self._reports.advanced(batch, outcome)
        self._reports.streams(len(self._restores))

    def _runs(self, partition: Partition) -> bool:
        task = self._tasks.get(partition)
        return task is not None and task.phase is Phase.RUNNING

    def _begin(self, everything: bool = False) -> bool:
        """Cut a boundary for the committer; whether there was anything to write."""
        now = self._clocks.monotonic()
        self._pace.begin(now)
        parts = self._checkpoint.cut(self._tasks.values(), now, everything)
        if parts:
            self._committer.begin(parts)
        return bool(parts)

    def _attempt(self) -> Attempted:
        begun = self._clocks.monotonic()
        return self._committer.attempt(), self._clocks.monotonic() - begun

    def _finish(self, stop: Event) -> None:
        """Wait for the attempt being made, or make one; let the group rebalance and forget what went, and again.

        An attempt that fails turns the loop, but is no progress. Raises DeliveryError when the process is to stop and
        Kafka does not let it come to an end, and when the group goes on refusing it.
        """
        waited = refused = 0.0
        while True:
            begun = self._clocks.monotonic()
            sending, self._sending = self._sending, None
            done, seconds = sending.result() if sending else self._attempt()
            self._metrics.process.turned()
            if done:
                self._metrics.process.progressed()
            self._report(done, seconds)
            if not self._committer.busy:
                return
            self._client.hold(0.0 if done else RETRY_SECONDS)
            self._rebalance()
            taken = self._clocks.monotonic() - begun
            waited += taken
            refused = refused + taken if self._committer.refusal else 0.0
            if stop.is_set() and waited > DRAIN_SECONDS:
                raise DeliveryError("the last transaction's outcome is open; the next run goes on from the last commit")
            if refused > STALLED_SECONDS:
                self._check_group(refused)
                refused = 0.0

    def _check_group(self, refused: float) -> None:
        """DeliveryError if the group's coordinator can be asked: a new process may have more luck then, else not."""
        try:
            self._client.committed(list(self._tasks))
        except NotNowError:
            return
        raise DeliveryError(
            f"a transaction was refused for {refused:.0f} s by a group that answers: {self._committer.refusal}; "
            "nothing of it is visible, and a restart joins the group as a new member"
        )

    def _on_revoke(self) -> None:
        """Called by the client before partitions go: try to finish the transaction at hand, nothing more.

        What stays open is the loop's to finish, for the partitions that stay ours. What was lost before in the same
        poll is let go first, or its records would go along under the new generation.
        """
        self._rebalance()
        if self._committer.is_unknown:
            return  # asking for committed positions is not possible on the client's own thread
        if self._committer.busy or self._begin():
            self._report(*self._attempt())

    def _report(self, parts: Sequence[Part], seconds: float) -> None:
        if parts:
            self._pace.took(seconds)
            self._reports.committed(parts, seconds)

    def _streams_moved(self) -> None:
        """Partitions have come, gone, or been restored."""
        self._reports.streams(len(self._restores))
        if not self._restores:
            self._clocks.settled()

    def _now_ms(self) -> int:
        return round(self._clocks.wall() * 1000)


def _cut_short(problem: DeliveryError) -> None:
    log("drain_cut_short", logging.WARNING, error=str(problem))
