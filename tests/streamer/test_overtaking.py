"""Input deleted while it is read: whom it is asked about, and what is kept until it can be."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.events import Partition, Records
from streamer.delivery import NotNowError
from streamer.overtaking import LOOK_SECONDS, MOST_GAPS, Overtaking

A, B, C = (Partition("events", number) for number in range(3))


class Logs:
    """Where logs begin, and those that nobody can be asked about."""

    def __init__(self):
        self.begins = {}
        self.away = set()
        self.asked = []

    def begin(self, partition):
        self.asked.append(partition)
        if partition in self.away:
            raise NotNowError("its leader is away")
        return self.begins.get(partition, 0)


def read(overtaking, partition, *offsets, expected=0):
    overtaking.read(Records(partition, offsets, None, [None] * len(offsets), [b""] * len(offsets)), expected)


def test_a_partition_without_a_leader_keeps_no_other_from_being_looked_at():
    logs, lost = Logs(), []
    logs.away, logs.begins = {A}, {B: 3, C: 10}
    overtaking = Overtaking(logs.begin, lost.append)
    for partition in (A, B, C):
        read(overtaking, partition, 5, 7)  # 0 to 4 and 6 are missing
    for look in range(3):
        overtaking.look(look * LOOK_SECONDS)
    assert lost == [3, 6]
    logs.away, logs.begins[A] = set(), 6
    overtaking.look(3 * LOOK_SECONDS)
    assert lost == [3, 6, 5]


def test_a_look_asks_no_further_once_a_leader_is_away_as_each_question_has_to_wait():
    logs = Logs()
    logs.away = {A, B, C}
    overtaking = Overtaking(logs.begin, lambda _: None)
    for partition in (A, B, C):
        read(overtaking, partition, 5)
    for look in range(4):
        overtaking.look(look * LOOK_SECONDS)
    assert logs.asked == [A, B, C, A]


gaps = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5)), min_size=1, max_size=40)


@given(gaps, st.integers(0, 300))
def test_what_was_passed_over_before_a_logs_beginning_is_counted_to_the_offset(gaps, begin):
    logs, lost, at, missing = Logs(), [0], 0, []
    logs.begins[A] = begin
    overtaking = Overtaking(logs.begin, lost.append)
    for passed, there in gaps:
        missing += range(at, at + passed)
        offsets = range(at + passed, at + passed + there)
        read(overtaking, A, *offsets, expected=at)
        at = offsets.stop
    overtaking.look(0.0)
    assert sum(lost) == sum(offset < begin for offset in missing)


def test_a_partition_that_cannot_be_asked_about_for_hours_takes_no_more_memory_and_loses_no_count():
    logs, lost = Logs(), []
    logs.away, at = {A}, 0
    overtaking = Overtaking(logs.begin, lost.append)
    for look in range(50):
        offsets = range(at + 3, at + 3_000, 3)  # two of three are missing
        read(overtaking, A, *offsets, expected=at + 1)
        at = offsets[-1]
        overtaking.look(look * LOOK_SECONDS)
        assert len(overtaking._missing[A]) <= MOST_GAPS
    logs.away, logs.begins[A] = set(), at // 2
    overtaking.look(50 * LOOK_SECONDS)
    exact = 2 * (at // 2 // 3)
    assert exact <= sum(lost) <= exact + 2 * 8  # eight gaps have become one
