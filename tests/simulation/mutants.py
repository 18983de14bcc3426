"""The protocol with one rule broken at a time, by patching the real code or the simulated brokers."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from streamer.checkpoint import Checkpoint, Part, position_of
from streamer.committer import Committer
from streamer.core.arena import Arena
from streamer.core.engine import Engine
from streamer.core.events import Partition, Records
from streamer.core.ledger import Ledger
from streamer.core.timegrid import Ints
from streamer.daemon import Daemon
from streamer.restore import Restore
from streamer.tasks import Phase, Task
from tests.simulation import client, kafka
from tests.simulation.client import SimClient, SimReader


def end_is_the_last_stable_offset(patch: pytest.MonkeyPatch) -> None:
    def end(self: Any, partition: Partition) -> int:
        return self._broker.log(partition).stable(partition)

    patch.setattr(SimReader, "end", end)


def the_changelog_is_read_uncommitted(patch: pytest.MonkeyPatch) -> None:
    def read(self: Any, timeout_seconds: float) -> tuple[Records | None, int]:
        log = self._broker.log(self._partition)
        found = [e for e in log.entries if e.offset >= self._position and not e.is_marker]
        self._position = log.end
        columns = ([getattr(e, name) for e in found] for name in ("offset", "key", "value"))
        offsets, keys, values = columns
        return (Records(self._partition, offsets, None, keys, values) if found else None), log.end

    patch.setattr(SimReader, "read", read)


def the_committed_position_is_not_stable(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kafka.Broker, "committed", lambda self, partition: self.positions.get(partition))


def replay_ignores_covers(patch: pytest.MonkeyPatch) -> None:
    replay = Engine.replay

    def ignoring(self: Engine, records: Records) -> tuple[Ints, Ints]:
        covers, self.arena.covers = self.arena.covers, np.zeros_like(self.arena.covers)
        try:
            return replay(self, records)
        finally:
            self.arena.covers = covers

    patch.setattr(Engine, "replay", ignoring)


def replay_creates_streams(patch: pytest.MonkeyPatch) -> None:
    replay = Engine.replay

    def creating(self: Engine, records: Records) -> tuple[Ints, Ints]:
        self._place(records.partition, self._decoder.decode(records))
        return replay(self, records)

    patch.setattr(Engine, "replay", creating)


def replay_leaves_no_stream_dirty(patch: pytest.MonkeyPatch) -> None:
    replay = Engine.replay

    def clean(self: Engine, records: Records) -> tuple[Ints, Ints, int]:
        _rows, _offsets, steps = replay(self, records)
        return np.zeros(0, np.int64), np.zeros(0, np.int64), steps

    patch.setattr(Engine, "replay", clean)


def nobody_asks_for_ownership(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Task, "is_ours", property(lambda self: True))


def a_partition_that_comes_back_keeps_its_task(patch: pytest.MonkeyPatch) -> None:
    """Ownership is asked of the partition, not of the task."""
    tasks: dict[tuple[int, Partition], Task] = {}
    restoring = Daemon._rebalance

    def rebalance(self: Any) -> None:
        restoring(self)
        for partition, task in self._tasks.items():
            tasks[id(self), partition] = task

    def send(self: Any) -> list[Part]:
        live = {task.partition for (daemon, _), task in tasks.items() if task.is_ours}
        for part in self._parts:
            if part.task.partition in live:
                part.task.phase = Phase.RUNNING
        return original(self)

    original = Committer._send
    patch.setattr(Daemon, "_rebalance", rebalance)
    patch.setattr(Committer, "_send", send)


def an_unknown_outcome_is_taken_for_done(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Any) -> list[Part]:
        self._client.recover()
        self._must_recover = False
        return self._done()

    patch.setattr(Committer, "_settle", settle)


def an_unknown_outcome_is_sent_again(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Any) -> list[Part]:
        self._client.recover()
        self._must_recover = False
        return []

    patch.setattr(Committer, "_settle", settle)


def a_position_that_stands_still_counts_as_advanced(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Part, "before", property(lambda self: -1, lambda self, value: None), raising=False)


def the_low_water_mark_forgets_dirty_streams(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "low_water", lambda self, committed: committed)


def the_low_water_mark_ignores_its_own_snapshots(patch: pytest.MonkeyPatch) -> None:
    cut, clean = Checkpoint._part, Ledger.clean
    later: list[tuple[Ledger, Ints]] = []

    def part(self: Any, task: Task, *more: Any) -> Part | None:
        made = cut(self, task, *more)
        while later:
            ledger, rows = later.pop()
            clean(ledger, rows)
        return made

    patch.setattr(Ledger, "clean", lambda self, rows: later.append((self, rows)))
    patch.setattr(Checkpoint, "_part", part)


def a_stream_begins_without_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Task, "take_born", lambda self: self.born.clear() or np.zeros(0, np.int64))


def snapshots_are_taken_late(patch: pytest.MonkeyPatch) -> None:
    """Bytes are of an arena that is a step further."""
    snapshots = Arena.snapshots

    def later(self: Arena, rows: Ints, covers: int) -> Any:
        self.age[rows] += 1  # as the next batch would
        taken = snapshots(self, rows, covers)
        self.age[rows] -= 1
        return taken

    patch.setattr(Arena, "snapshots", later)


def a_tombstone_leaves_its_stream_dirty(patch: pytest.MonkeyPatch) -> None:
    release = Arena.release

    def keeping(self: Arena, rows: Sequence[int]) -> None:
        stamps = self.stamp[rows].copy()
        release(self, rows)
        self.stamp[rows] = stamps

    patch.setattr(Arena, "release", keeping)


def what_was_read_ahead_of_a_lost_partition_is_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Daemon, "_drop_ahead", lambda self, partition: None)


def the_client_is_used_while_it_makes_an_attempt(patch: pytest.MonkeyPatch) -> None:
    advance = Daemon._advance

    def advancing(self: Any, batch: Sequence[Records]) -> None:
        self._client.lag()
        advance(self, batch)

    patch.setattr(Daemon, "_advance", advancing)


def a_stream_is_forgotten_under_the_transaction_at_hand(patch: pytest.MonkeyPatch) -> None:
    """In the batch that is advanced beside it, while its low-water mark is noted only as it is sent."""
    advance, evict, send = Daemon._advance, Engine.evict, Committer._send
    gone: dict[tuple[int, Partition], list[str]] = {}

    def advancing(self: Any, batch: Sequence[Records]) -> None:
        advance(self, batch)
        for partition, streams in evict(self._engine, list(self._tasks)).items():
            gone.setdefault((id(self._engine), partition), []).extend(streams)

    def evicting(self: Engine, partitions: Sequence[Partition]) -> dict[Partition, list[str]]:
        return {p: gone.pop((id(self), p), []) + streams for p, streams in evict(self, partitions).items()}

    def sending(self: Any) -> list[Part]:
        for part in self._parts:
            low_water = min(part.position.offset, part.task.low_water())
            object.__setattr__(part, "position", position_of(part.position.offset, low_water))
        return send(self)

    patch.setattr(Daemon, "_advance", advancing)
    patch.setattr(Engine, "evict", evicting)
    patch.setattr(Committer, "_send", sending)


def a_silent_stream_begins_anew_only_when_its_row_was_freed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("streamer.core.engine.begin_again", lambda judged, *more: judged)


def a_rebirth_is_not_snapshotted(patch: pytest.MonkeyPatch) -> None:
    add = Checkpoint.add

    def adding(self: Any, task: Task, forecasts: Any, now: float) -> None:
        known = self._engine.arena.covers[forecasts.row] > 0
        forecasts.born[known] = False
        add(self, task, forecasts, now)

    patch.setattr(Checkpoint, "add", adding)


def positions_are_sent_without_a_generation(patch: pytest.MonkeyPatch) -> None:
    def knows(self: Any) -> bool:
        return self.generation == client.NOBODY or self._broker.group.accepts(self.member, self.generation)

    patch.setattr(SimClient, "knows_its_place", knows)


def any_generation_will_do(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimClient, "knows_its_place", lambda self: True)


def what_lies_beyond_the_position_is_an_error_at_once(patch: pytest.MonkeyPatch) -> None:
    def again(self: Any) -> None:
        raise kafka.TimedOutError("beyond")

    patch.setattr(Restore, "_again", again)


def the_starting_position_is_not_committed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimClient, "commit_positions", lambda self, positions: None)
    patch.setattr(SimClient, "starting_offset", lambda self, partition: self._broker.log(partition).end)


def a_lost_partition_keeps_its_streams(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Engine, "release", lambda self, partition: None)


def the_old_producer_is_trusted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimClient, "recover", lambda self: None)


def a_snapshot_only_transaction_moves_no_position(patch: pytest.MonkeyPatch) -> None:
    transact = SimClient._transact

    def without(self: Any, output: Any, positions: Any) -> None:
        still = {p for p, position in positions.items() if self._broker.positions[p].offset == position.offset}
        transact(self, output, {p: position for p, position in positions.items() if p not in still})

    patch.setattr(SimClient, "_transact", without)


def zombies_are_not_shut_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(kafka.Broker, "check", lambda self, producer, epoch: None)


def outcomes_are_judged_by_lost_partitions_too(patch: pytest.MonkeyPatch) -> None:
    settle = Committer._settle

    def any_part(self: Any) -> list[Part]:
        patch.setattr(Task, "is_ours", property(lambda self: True))
        try:
            return settle(self)
        finally:
            patch.setattr(Task, "is_ours", property(lambda self: self.phase is not Phase.CLOSED))

    patch.setattr(Committer, "_settle", any_part)


def the_revocation_knows_nothing_of_losses(patch: pytest.MonkeyPatch) -> None:
    def on_revoke(self: Any) -> None:
        if self._committer.busy or self._begin():
            self._committer.attempt()

    patch.setattr(Daemon, "_on_revoke", on_revoke)


def a_restore_takes_its_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("streamer.restore.LIMIT_SECONDS", float("inf"))


def what_is_built_anew_takes_in_all_that_is_replayed(patch: pytest.MonkeyPatch) -> None:
    begin = Engine.begin
    patch.setattr(Engine, "begin", lambda self, partition, streams, offset: begin(self, partition, streams, 0))


def a_partition_runs_before_what_was_built_is_saved(patch: pytest.MonkeyPatch) -> None:
    concluded = Restore._concluded

    def conclude(self: Any) -> Iterator[None]:
        yield from concluded(self)
        if self._task.saving:
            self._go_live()

    patch.setattr(Restore, "_concluded", conclude)


def what_was_not_built_anew_is_left_for_another_restore(patch: pytest.MonkeyPatch) -> None:
    concluded = Restore._concluded

    def conclude(self: Any) -> Iterator[None]:
        yield from concluded(self)
        self._task.voided.clear()

    patch.setattr(Restore, "_concluded", conclude)


def a_name_that_is_taken_is_not_asked_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimClient, "_check_place", lambda self: None)
