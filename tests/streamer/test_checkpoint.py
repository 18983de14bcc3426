"""What one transaction holds: all of it of one boundary, snapshots as far as their share goes."""

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.assembly import engine_for
from streamer.checkpoint import Checkpoint, Part, SnapshotPolicy, Topics, in_bytes, low_water_of, position_of
from streamer.core.engine import Engine
from streamer.core.events import Partition
from streamer.core.ledger import Ledger
from streamer.core.wire import ForecastEncoder
from streamer.delivery import Position
from streamer.settings import InputSettings, StateSettings
from streamer.tasks import Phase, Task, changelog_of
from tests.drive import EVENTS, event, records
from tests.simulation.model import Chain
from tests.simulation.oracle import FORMAT

CHANGELOG = Partition("g-events-changelog", 0)


class Bench:
    """One running partition, driven by hand."""

    def __init__(self, idle_hours: int = 0, **policy: float) -> None:
        wanted = {"interval_seconds": 10.0, "share": 0.9, "max_replay_events": 1000, **policy}
        state = StateSettings(max_streams=100, idle_seconds=idle_hours * 3600)
        self.engine: Engine = engine_for(Chain(), InputSettings(max_gap_steps=3), state)
        topics = Topics("forecasts", "dead", partial(changelog_of, "g"))
        encoder = ForecastEncoder(Chain.manifest)
        self.checkpoint = Checkpoint(self.engine, encoder, FORMAT, topics, SnapshotPolicy(**wanted))  # type: ignore[arg-type]
        self.task = Task(EVENTS, Ledger(self.engine.arena), Phase.RUNNING)

    def feed(self, *events: object, now: float = 0.0) -> None:
        batch = records(events, self.task.position)
        for forecasts in self.engine.advance([batch]).forecasts:
            self.checkpoint.add(self.task, forecasts, now)

    def cut(self, now: float = 0.0, everything: bool = False) -> Part | None:
        parts = self.checkpoint.cut([self.task], now, everything)
        return parts[0] if parts else None


def changelog(part: Part | None) -> list[tuple[str, int | None]]:
    """(stream, covers), None for a tombstone."""
    assert part is not None
    found: list[tuple[str, int | None]] = []
    for messages in part.messages:
        if messages.partition == CHANGELOG:
            for key, value in zip(messages.keys, messages.values, strict=True):
                covers = None if value is None else int(FORMAT.decode([value])[0].covers[0])
                found.append(((key or b"").decode(), covers))
    return found


def test_a_streams_first_snapshot_goes_with_its_first_event_and_the_next_when_it_is_due():
    bench = Bench()
    bench.feed(event("a", 1), event("b", 1))
    first = bench.cut()
    assert changelog(first) == [("a", 2), ("b", 2)]
    bench.feed(event("a", 2), now=1.0)
    part = bench.cut(now=1.0)
    assert changelog(part) == []
    assert part is not None
    assert (part.before, part.position) == (2, position_of(3, 2))
    assert bench.cut(now=10.9) is None
    late = bench.cut(now=11.0)
    assert changelog(late) == [("a", 3)]
    assert late is not None
    assert (late.before, late.position) == (3, position_of(3, 3))


def test_snapshots_wait_while_they_exceed_their_share_but_not_for_ever():
    bench = Bench(share=0.01, interval_seconds=1.0, max_replay_events=8)
    bench.feed(*[event(f"s{i}", 1) for i in range(9)])
    bench.cut()
    marks = []
    for hour in range(2, 9):
        bench.feed(event(f"s{hour}", hour), event("s0", hour), now=10.0 * hour)
        part = bench.cut(now=10.0 * hour + 5)
        marks.append(len(changelog(part)))
    assert marks[:3] == [0] * 3
    assert sum(marks) > 0


def test_a_stream_waits_no_longer_than_a_day_however_many_others_begin():
    bench = Bench(share=0.01, interval_seconds=1.0, max_replay_events=1_000_000)
    bench.feed(event("a", 1))
    bench.cut()
    bench.feed(event("a", 2))
    saved = []
    for hour in range(30):
        bench.feed(event(f"new{hour}", hour), now=3600.0 * hour)
        saved += [(hour, stream) for stream, _ in changelog(bench.cut(now=3600.0 * hour)) if stream == "a"]
    assert saved == [(24, "a")]


def test_new_streams_keep_the_others_waiting_for_some_intervals_and_no_longer():
    share = 0.05
    bench = Bench(share=share, interval_seconds=10.0, max_replay_events=1_000_000)
    bench.feed(event("a", 1))
    bench.cut()
    for hour in range(2, 22):
        bench.feed(event("a", hour), now=float(hour))
        bench.cut(now=float(hour))
    bench.feed(*[event(f"new{i}", 22) for i in range(90)], event("a", 22), now=22.0)
    assert ("a", 92 + 20) not in changelog(bench.cut(now=22.0))
    written = {"forecasts": 0, "snapshots": 0}
    saved = []
    for hour in range(23, 123):
        bench.feed(event("a", hour), event(f"new{hour % 90}", hour), now=float(hour))
        part = bench.cut(now=float(hour))
        assert part is not None
        for messages in part.messages:
            kind = "snapshots" if messages.partition == CHANGELOG else "forecasts"
            written[kind] += sum(len(value or b"") for value in messages.values)
        saved += [hour] * part.snapshots
    assert 22 + 10 < saved[0] < 22 + 5 * 10
    assert len(saved) > 5
    assert written["snapshots"] <= share / (1 - share) * written["forecasts"] + FORMAT.bytes_per_snapshot


def test_the_oldest_changes_are_snapshotted_first_in_whichever_partition_they_are():
    bench = Bench(share=0.01, interval_seconds=1.0)
    other = Task(Partition("events", 1), Ledger(bench.engine.arena), Phase.RUNNING)
    tasks = [bench.task, other]
    for hour, now in ((1, 0.0), (2, 1.0), (3, 2.0)):  # the second partition's are older
        for task in reversed(tasks):
            seen = replace(records([event(s, hour) for s in "ab"], task.position), partition=task.partition)
            (forecasts,) = bench.engine.advance([seen]).forecasts
            bench.checkpoint.add(task, forecasts, now + (task is bench.task) * 0.5)
        bench.checkpoint.cut(tasks, now) if hour == 1 else None
    bench.checkpoint._allowance = 3.5 * FORMAT.bytes_per_snapshot
    first, second = bench.checkpoint.cut(tasks, now=9.0)
    assert (first.snapshots, second.snapshots) == (1, 2)


def test_snapshots_beyond_one_share_are_shares_of_their_own_that_follow_it(monkeypatch):
    monkeypatch.setattr("streamer.checkpoint.SHARE_BYTES", 2 * FORMAT.bytes_per_snapshot)
    bench = Bench()
    bench.feed(*[event(s, 1) for s in "abcde"])
    (born,) = bench.checkpoint.cut([bench.task], 0.0)
    assert born.snapshots == 5  # with their first events, however many
    bench.feed(*[event(s, 2) for s in "abcde"])
    parts = bench.checkpoint.cut([bench.task], 9.0, everything=True)
    assert [changelog(part) for part in parts] == [[("a", 10), ("b", 10)], [("c", 10), ("d", 10)], [("e", 10)]]
    assert [part.before for part in parts] == [5, 10, 10]
    assert [low_water_of(part.position) for part in parts] == [7, 9, 10]


def test_what_restores_leave_to_be_written_has_one_limit_for_all_partitions_together(monkeypatch):
    monkeypatch.setattr("streamer.checkpoint.MANY", 3)
    bench = Bench()
    saving = [Task(Partition("events", number), Ledger(bench.engine.arena), Phase.RESTORING) for number in (1, 2)]
    running = [Task(Partition("events", number), Ledger(bench.engine.arena), Phase.RUNNING) for number in (3, 4)]
    for task in saving:
        bench.engine.begin(task.partition, ["a", "b"], 0)
        task.rebuilt, task.saving = bench.engine.rows(task.partition), True
        task.ledger.changed(task.rebuilt, task.rebuilt, 0.0)
    for task in running:
        task.voided = dict.fromkeys(["a", "b"])
    left = []
    for _ in range(2):
        bench.checkpoint.cut([*saving, *running], 0.0)
        left.append([len(task.rebuilt) for task in saving] + [len(task.voided) for task in running])
    assert left == [[0, 1, 0, 1], [0, 0, 0, 0]]


def test_what_waits_is_counted_with_the_snapshots_of_new_streams():
    bench = Bench()
    for hour in (1, 2):
        bench.feed(event("a", hour))
        waiting = bench.checkpoint.bytes
        part = bench.cut()
        assert part is not None
        assert waiting == sum(len(value or b"") for messages in part.messages for value in messages.values)


def test_at_the_end_every_dirty_stream_is_snapshotted():
    bench = Bench(share=0.01)
    bench.feed(event("a", 1), event("b", 1))
    bench.cut()
    bench.feed(event("b", 2), event("a", 2), now=5.0)
    assert changelog(bench.cut(now=5.0, everything=True)) == [("b", 4), ("a", 4)]
    assert bench.cut(now=5.0, everything=True) is None


def test_what_was_cut_stays_as_it_was_when_the_next_batch_advances_and_evicts():
    bench = Bench(idle_hours=4)
    bench.feed(event("a", 1), event("b", 1))
    bench.cut()
    bench.feed(event("a", 2), event("b", 2))
    part = bench.cut(now=1.0)
    assert part is not None
    before = [(m.partition, list(m.keys), list(m.values)) for m in part.messages]
    bench.feed(event("b", 9), event("b", 10))
    after = bench.cut(now=40.0)
    assert ("a", None) in changelog(after)
    assert [(m.partition, list(m.keys), list(m.values)) for m in part.messages] == before
    assert part.position == position_of(4, 2)
    assert after is not None
    assert after.position.offset == 6


def test_a_tombstone_cleans_a_dirty_stream():
    bench = Bench(idle_hours=4)
    bench.feed(event("a", 1), event("b", 1))
    bench.cut()
    bench.feed(event("a", 2), event("b", 9))
    part = bench.cut()
    assert changelog(part) == [("a", None)]
    assert part is not None
    assert part.position == position_of(4, 3)


@given(st.lists(st.text(st.sampled_from("aé\n\r\u2028"), max_size=3)))
def test_ids_are_turned_into_bytes_all_at_once_as_one_by_one(ids):
    assert in_bytes(ids) == [each.encode() for each in ids]


def test_a_closed_task_leaves_nothing_behind():
    bench = Bench()
    bench.feed(event("a", 1))
    assert bench.checkpoint.records == 1
    bench.task.move(Phase.CLOSED)
    bench.checkpoint.close(bench.task)
    assert bench.checkpoint.records == 0
    assert bench.cut() is None


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 12)), max_size=4), max_size=12), st.booleans()
)
def test_positions_and_low_water_marks_never_fall_and_cover_every_change(batches, evict):
    bench = Bench(idle_hours=4 if evict else 0, interval_seconds=2.0)
    covers: dict[str, int] = {}
    changes: list[tuple[int, str]] = []
    committed = low_water = 0
    for now, batch in enumerate(batches):
        at = bench.task.position
        seen = records([event(s, h) for s, h in batch], at)
        for forecasts in bench.engine.advance([seen] if batch else []).forecasts:
            bench.checkpoint.add(bench.task, forecasts, now)
            changes += zip(forecasts.offsets.tolist(), forecasts.stream, strict=True)
        part = bench.cut(now=now)
        if part is None:
            continue
        mark = low_water_of(part.position)
        assert mark is not None
        assert low_water <= mark <= part.position.offset == bench.task.position >= committed == part.before
        committed, low_water = part.position.offset, mark
        for stream, covered in changelog(part):
            if covered is None:
                covers.pop(stream, None)
            else:
                assert covered == committed
                covers[stream] = covered
        assert all(low_water <= o for o, s in changes if o >= covers.get(s, committed))


@pytest.mark.parametrize("metadata", ["", "lwm=3", "tc1;lwm=", "tc1;lwm=3 ", "tc1;lwm=-1"])
def test_a_position_of_somebody_else_has_no_low_water_mark(metadata):
    assert low_water_of(Position(5, metadata)) is None
    assert low_water_of(position_of(5, 3)) == 3
