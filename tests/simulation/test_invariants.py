"""The invariants of the delivery protocol under schedules by chance, with crashes, aborts and moves as data.

    1  the visible log is a function of the accepted prefix: same ids, order and values
    2  a snapshot covers no more than is committed, and per stream never less than before
    3  the low-water mark is at most the committed offset, never falls, and reaches it on an idle partition
    4  every event that a snapshot does not cover lies behind the low-water mark
    5  a restore gives the live state
    6  a forgotten stream is no longer dirty
    7  replay publishes nothing and counts nothing
    8  compaction changes no restore
    9  what was lost or shut out is in no later transaction

The oracle checks 1 to 6 at every commit and restore, and 9 by what is sent; compaction comes at any moment.
"""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.actions import Feed, Kill, Start, Turn, Wait
from tests.simulation.schedule import PROFILES, schedule
from tests.simulation.world import Setup, World

LENGTH = 60


@settings(max_examples=12)
@pytest.mark.parametrize("profile", range(len(PROFILES)))
@given(chance=st.randoms(use_true_random=False))
def test_whatever_happens_every_event_is_answered_once_as_in_one_uninterrupted_run(profile, chance):
    weights, setup = PROFILES[profile]
    world = World(setup)
    world.run(schedule(chance, weights, setup, LENGTH))
    world.heal()


@pytest.mark.parametrize("seed", range(180))
def test_seeded_schedules_hold(seed):
    weights, setup = PROFILES[seed % len(PROFILES)]
    world = World(setup)
    world.run(schedule(random.Random(seed), weights, setup, 2 * LENGTH))
    world.heal()


@pytest.mark.parametrize("seed", range(45))
def test_seeded_schedules_hold_where_a_partition_goes_in_many_shares(seed, monkeypatch):
    monkeypatch.setattr("streamer.checkpoint.SHARE_BYTES", 1)
    weights, setup = PROFILES[seed % len(PROFILES)]
    world = World(replace(setup, snapshot_interval_seconds=0.5))
    world.run(schedule(random.Random(seed), {**weights, "fail": 9}, setup, 2 * LENGTH))
    world.heal()


def test_replay_publishes_nothing_and_counts_nothing():
    world = World(Setup(partitions=1, snapshot_interval_seconds=50))
    events = [Feed(0, stream) for stream in "abab"]
    world.run(
        [Start(0), Turn(0, 8), *events, Turn(0, 9), *events, Turn(0, 9), Kill(0), Wait(31), Start(1), Turn(1, 16)]
    )
    process = world.processes[1]
    assert process is not None
    assert process.daemon.ready()[0]
    count = process.metrics.registry.get_sample_value
    assert count("streamer_replayed_records_total") == 4
    counters = ["records_consumed", "events_accepted", "forecasts_published", "dead_letters_published"]
    assert [count(f"streamer_{name}_total") for name in counters] == [0, 0, 0, 0]
    assert count("streamer_transactions_total", {"result": "committed"}) == 0
