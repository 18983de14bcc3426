"""What must be visible where two versions of a model serve one group in turn.

A stream's state under a version is what that version made of it last, unless the other one has had it since: then it
is built anew from the last N records for each stream of the partition, or begun by its next event. So every forecast
follows from the log of input and the offsets at which the versions took turns, whatever crashed in between.
"""

import json
from collections import defaultdict
from collections.abc import Sequence

from streamer.core.engine import Engine
from streamer.core.events import Partition, Records
from streamer.core.snapshot import HEADER, MAGIC, VERSION
from streamer.core.wire import ForecastEncoder
from tests.simulation.kafka import Entry, Transaction
from tests.simulation.model import OTHER_FINGERPRINT, Chain, OtherChain
from tests.simulation.oracle import FORECASTS, holds
from tests.simulation.world import World

PREFIX = HEADER.pack(MAGIC, VERSION, bytes.fromhex(OTHER_FINGERPRINT))
MODELS = {False: Chain(), True: OtherChain()}


class Turns:
    """One partition's expected forecasts, told of its transactions in their order."""

    def __init__(self, world: World, partition: Partition, steps: int) -> None:
        self._world, self._partition, self._steps = world, partition, steps
        self._states: dict[bool, dict[str, Engine]] = {False: {}, True: {}}
        self._last: dict[str, bool] = {}  # whose each stream's snapshot is
        self._newer = False
        self._committed = 0
        self.expected: list[bytes] = []
        self.turns = 0

    def committed(self, newer: bool, offset: int, changelog: Sequence[tuple[str, bytes | None]]) -> None:
        """A transaction of one version, with the position it commits."""
        if newer != self._newer:
            self._take_turn(newer)
        for entry in self._world.oracle.history[self._partition]:
            if self._committed <= entry.offset < offset:
                self.expected += self._advance(entry)
        self._committed = offset
        for stream, value in changelog:
            if value is None:
                self._last.pop(stream)
                self._states[False].pop(stream, None)
                self._states[True].pop(stream, None)
            else:
                self._last[stream] = value.startswith(PREFIX)

    def _take_turn(self, newer: bool) -> None:
        self.turns += 1
        self._newer = newer
        begin = self._committed - self._steps * len(self._last)
        for stream, whose in self._last.items():
            if whose != newer:
                self._states[newer].pop(stream, None)
                for entry in self._world.oracle.history[self._partition]:
                    if self._steps and begin <= entry.offset < self._committed and stream == _stream(entry):
                        self._advance(entry)

    def _advance(self, entry: Entry) -> list[bytes]:
        stream = _stream(entry)
        engine = self._states[self._newer].setdefault(stream, self._world.new_engine(9, MODELS[self._newer]))
        records = Records(self._partition, [entry.offset], [-1], [entry.key], [entry.value])
        (forecasts,) = engine.advance([records]).forecasts
        return ForecastEncoder(MODELS[self._newer].manifest).encode(forecasts)


def watch(world: World) -> dict[Partition, Turns]:
    """Follow every transaction of a world, which must not watch by itself."""
    turns = {partition: Turns(world, partition, world.setup.warm_from_input_steps) for partition in world.inputs}

    def on_commit(transaction: Transaction) -> None:
        changelogs = defaultdict(list)
        for where, key, value, _ in transaction.output:
            if where.topic.endswith("-changelog"):
                changelogs[Partition("events", where.number)].append(((key or b"").decode(), value))
        for partition, position in transaction.positions.items():
            newer = transaction.producer in world.setup.newer
            turns[partition].committed(newer, position.offset, changelogs[partition])

    world.broker.on_commit = on_commit
    return turns


def check(world: World, turns: dict[Partition, Turns]) -> None:
    for partition, each in turns.items():
        found = [value for _, value in world.oracle.visible(Partition(FORECASTS, partition.number)) if value]
        holds(found == each.expected, 1, f"{partition}: forecasts {found} for {each.expected}")


def _stream(entry: Entry) -> str:
    try:
        found: str = json.loads(entry.value or b"")["stream"]
    except ValueError:
        return ""
    return found
