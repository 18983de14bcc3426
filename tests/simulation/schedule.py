"""Schedules by chance: what happens to processes, to their calls, and to the brokers.

Each profile makes some misfortunes frequent that others leave rare, since what goes wrong needs a few of one kind.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tests.simulation.actions import (
    Action,
    At,
    Bad,
    Compact,
    Deafen,
    Fail,
    Feed,
    Gap,
    GiveUp,
    Heartbeat,
    Kill,
    Late,
    Marker,
    PutOut,
    Rebalance,
    Retain,
    Start,
    Stop,
    Turn,
    Unknown,
    Wait,
)
from tests.simulation.client import ASKING, PLACES
from tests.simulation.world import AnsweredLate, Setup

STREAMS = "abcd"
WEIGHTS: Mapping[str, float] = {
    "feed": 6, "turn": 10, "at": 3, "start": 2, "kill": 0.5, "stop": 0.3, "put_out": 0.5, "rebalance": 0.5,
    "heartbeat": 0.5, "deafen": 0.5, "marker": 2, "compact": 0.7, "retain": 0.5, "wait": 1, "late": 0.5, "give_up": 0.2,
    "fail": 1.5, "unknown": 1,
}  # fmt: skip
PROFILES: Sequence[tuple[Mapping[str, float], Setup]] = (
    ({}, Setup()),
    ({"put_out": 4, "rebalance": 3, "heartbeat": 2}, Setup(names=("p0", "p1", "p2"))),
    ({"marker": 0.3, "kill": 3, "start": 4}, Setup(partitions=1, slow={"group-events-changelog": 3.0})),
    ({"compact": 8, "wait": 3, "kill": 2, "retain": 3}, Setup(partitions=1, records_per_read=1)),
    ({"unknown": 5, "late": 3, "feed": 3, "put_out": 1.5}, Setup(snapshot_interval_seconds=0.5)),
    ({"at": 8, "put_out": 3, "kill": 2, "start": 4}, Setup(max_replay_events=3, snapshot_interval_seconds=50)),
    ({"kill": 2, "start": 5, "give_up": 1}, Setup(names=("p0", "p1", "p0"))),  # zombies and their successors
    ({"kill": 2, "start": 5, "give_up": 2, "wait": 2}, Setup(names=("p0", "p1", "p0"), static=True)),
    ({"feed": 12, "kill": 1.5}, Setup(max_streams=3, snapshot_share=0.05)),
    ({"at": 5, "rebalance": 3}, Setup(partitions=3, evict=False)),
    ({"unknown": 3, "kill": 2, "start": 4, "at": 4}, Setup(every=3, snapshot_interval_seconds=0.5)),
    ({"kill": 2, "start": 5, "put_out": 3, "rebalance": 2, "heartbeat": 2}, Setup(ask=AnsweredLate)),
    ({"feed": 14, "kill": 2, "start": 4, "put_out": 2, "rebalance": 2}, Setup(records_per_poll=1, backlog=True)),
)  # fmt: skip


def schedule(chance: random.Random, weights: Mapping[str, float], setup: Setup, length: int) -> list[Action]:
    """`length` actions, the processes started."""
    words = _Words(chance, {**WEIGHTS, **weights}, setup)
    return [Start(0), Turn(0, 8), *(words.any() for _ in range(length))]


class _Words:
    """Draws actions."""

    def __init__(self, chance: random.Random, weights: Mapping[str, float], setup: Setup) -> None:
        self._chance, self._setup, self._depth = chance, setup, 0
        self._names = sorted(weights)
        self._weights = [weights[name] for name in self._names]

    def any(self) -> Action:
        (name,) = self._chance.choices(self._names, self._weights)
        draw: Callable[[], Action] = getattr(self, "_" + name)
        return draw()

    def _process(self) -> int:
        return self._chance.randrange(len(self._setup.names))

    def _partition(self) -> int:
        return self._chance.randrange(self._setup.partitions)

    def _feed(self) -> Action:
        c = self._chance
        dice = c.random()
        if dice < 0.06:
            return Gap(self._partition()) if dice < 0.03 else Bad(self._partition())
        ahead = c.choice([-1, 0, 1, 1, 1, 2, 2, 5])
        return Feed(
            self._partition(), c.choice(STREAMS), ahead, c.random() < 0.5, c.choice([None, 1, 2, 3, 4]),
            c.choice(["north", "south", None, None]),
        )  # fmt: skip

    def _turn(self) -> Action:
        return Turn(self._process(), self._chance.choice([1, 1, 2, 3, 6]))

    def _start(self) -> Action:
        return Start(self._process())

    def _kill(self) -> Action:
        return Kill(self._process())

    def _stop(self) -> Action:
        return Stop(self._process())

    def _put_out(self) -> Action:
        return PutOut(self._process())

    def _rebalance(self) -> Action:
        return Rebalance(self._chance.randrange(3))

    def _heartbeat(self) -> Action:
        return Heartbeat(self._process())

    def _deafen(self) -> Action:
        return Deafen(self._process(), self._chance.choice([1, 3, 6]))

    def _marker(self) -> Action:
        return Marker(self._chance.randrange(6))

    def _compact(self) -> Action:
        return Compact(self._partition(), self._chance.choice([0, 0, 1, 3]))

    def _retain(self) -> Action:
        return Retain(self._partition())

    def _wait(self) -> Action:
        return Wait(self._chance.choice([0.2, 0.2, 1.0, 3.0, 11.0, 35.0, 70.0]))

    def _late(self) -> Action:
        return Late(self._process())

    def _give_up(self) -> Action:
        return GiveUp()

    def _fail(self) -> Action:
        process = self._process()
        return At(process, self._chance.choice(("begin", "produce", "positions", "commit", *ASKING)), (Fail(process),))

    def _unknown(self) -> Action:
        process = self._process()
        return At(process, "commit", (Unknown(process, self._chance.choice(["done", "lost", "late"])),))

    def _at(self) -> Action:
        """In the middle of a call of one process, anything else."""
        if self._depth > 1:
            return self._turn()
        self._depth += 1
        process = self._process()
        inner = [self.any() for _ in range(self._chance.choice([1, 1, 2, 4]))]
        if self._chance.random() < 0.4:  # taken over in the middle of it
            other = self._process()
            inner = [PutOut(process), self._deafen(), Start(other), Turn(other, 9), *inner]
        elif self._chance.random() < 0.3:
            inner = [Kill(process)]
        self._depth -= 1
        return At(process, self._chance.choice(PLACES), tuple(inner))


def setups() -> Sequence[Setup]:
    """Every profile's setup, with and without the clock's own evictions."""
    return [replace(setup, evict=evict) for _, setup in PROFILES for evict in (True, False)]
