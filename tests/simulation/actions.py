"""What can happen in the world: the words of a schedule."""

from dataclasses import dataclass

from streamer.core.events import Partition
from tests.drive import HOUR
from tests.simulation.client import NOBODY
from tests.simulation.kafka import Entry
from tests.simulation.world import World

FIRST_SLOT = 100


class Action:
    """One thing that happens."""

    def happen(self, world: World) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Feed(Action):
    """An event arrives: `ahead` of its stream's last slot, or of its partition's with `of_all`; None: no event."""

    partition: int
    stream: str
    ahead: int = 1
    of_all: bool = False
    value: int | None = 1
    site: str | None = None

    def happen(self, world: World) -> None:
        partition = world.inputs[self.partition]
        slots = world.slots
        top = max((slot for (p, _), slot in slots.items() if p == partition), default=FIRST_SLOT)
        slot = self.ahead + (top if self.of_all else slots.get((partition, self.stream), top))
        slots[partition, self.stream] = max(slot, slots.get((partition, self.stream), slot))
        site = f', "static": {{"site": "{self.site}"}}' if self.site else ""
        value = "null" if self.value is None else self.value
        raw = f'{{"stream": "{self.stream}", "ts": {slot * HOUR}, "value": {value}{site}}}'
        _append(world, partition, raw.encode())


@dataclass(frozen=True)
class Bad(Action):
    """A record arrives that is no event."""

    partition: int
    value: bytes = b"nonsense"

    def happen(self, world: World) -> None:
        _append(world, world.inputs[self.partition], self.value)


@dataclass(frozen=True)
class Gap(Action):
    """An offset without a record: a marker, or something aborted."""

    partition: int

    def happen(self, world: World) -> None:
        world.broker.log(world.inputs[self.partition]).mark(None)


def _append(world: World, partition: Partition, value: bytes) -> None:
    log = world.broker.log(partition)
    world.oracle.history[partition].append(Entry(log.end, None, b"key", value))
    log.append(None, b"key", value)


@dataclass(frozen=True)
class Turn(Action):
    """A process goes around its loop."""

    process: int
    times: int = 1

    def happen(self, world: World) -> None:
        for _ in range(self.times):
            world.turn(self.process)


@dataclass(frozen=True)
class Start(Action):
    """A process starts, if it does not run."""

    process: int

    def happen(self, world: World) -> None:
        world.start(self.process)


@dataclass(frozen=True)
class Kill(Action):
    """kill -9, also in the middle of a call."""

    process: int

    def happen(self, world: World) -> None:
        world.kill(self.process)


@dataclass(frozen=True)
class Stop(Action):
    """SIGTERM."""

    process: int

    def happen(self, world: World) -> None:
        world.shut_down(self.process)


@dataclass(frozen=True)
class At(Action):
    """The next time a process comes to a place in its client's calls, this happens first."""

    process: int
    place: str
    actions: tuple[Action, ...]

    def happen(self, world: World) -> None:
        process = world.processes[self.process]
        if process is not None:
            process.armed.append(self)


@dataclass(frozen=True)
class Fail(Action):
    """The call at hand fails: its transaction is aborted, its question not answered."""

    process: int

    def happen(self, world: World) -> None:
        process = world.processes[self.process]
        if process is not None:
            process.client.fails = True


@dataclass(frozen=True)
class Unknown(Action):
    """The next commit's answer is lost; it was done, got lost itself, or arrives later (`Late`)."""

    process: int
    truth: str

    def happen(self, world: World) -> None:
        process = world.processes[self.process]
        if process is not None:
            process.client.outcome = self.truth


@dataclass(frozen=True)
class Late(Action):
    """A request to commit that was on its way arrives; the producer it comes from may be shut out by now."""

    process: int

    def happen(self, world: World) -> None:
        world.arrive(self.process)


@dataclass(frozen=True)
class Marker(Action):
    """One marker that is on its way arrives."""

    which: int

    def happen(self, world: World) -> None:
        pending = [(t, where) for t in world.broker.transactions for where in sorted(t.pending)]
        if pending:
            world.broker.deliver(*pending[self.which % len(pending)])


@dataclass(frozen=True)
class Compact(Action):
    """The changelog is compacted, but for its last records."""

    partition: int
    but: int = 0

    def happen(self, world: World) -> None:
        changelog = Partition("group-events-changelog", self.partition)
        log = world.broker.log(changelog)
        log.compact(changelog, log.end - self.but, world.now)


@dataclass(frozen=True)
class Retain(Action):
    """Retention deletes input that no restart needs."""

    partition: int

    def happen(self, world: World) -> None:
        partition = world.inputs[self.partition]
        oracle = world.oracle.partitions.get(partition)
        if oracle is not None:
            world.broker.log(partition).retain(oracle.low_water)


@dataclass(frozen=True)
class PutOut(Action):
    """The group loses patience with a process."""

    process: int

    def happen(self, world: World) -> None:
        process = world.processes[self.process]
        if process is not None:
            world.broker.group.put_out(process.client.member)


@dataclass(frozen=True)
class Heartbeat(Action):
    """A process's client learns that it was put out, before anybody polls."""

    process: int

    def happen(self, world: World) -> None:
        process = world.processes[self.process]
        if process is not None and process.client.generation != NOBODY:
            process.client.heartbeat()


@dataclass(frozen=True)
class Deafen(Action):
    """A process goes on polling, and hears nothing of its group."""

    process: int
    polls: int

    def happen(self, world: World) -> None:
        process = world.processes[self.process]
        if process is not None:
            process.client.deaf = self.polls + 1


@dataclass(frozen=True)
class Rebalance(Action):
    """The group distributes its partitions anew."""

    turn: int

    def happen(self, world: World) -> None:
        world.broker.group.turn = self.turn
        world.broker.group.rebalance()


@dataclass(frozen=True)
class GiveUp(Action):
    """The coordinator gives the open transactions up."""

    def happen(self, world: World) -> None:
        for transaction in list(world.broker.transactions):
            world.broker.give_up(transaction)


@dataclass(frozen=True)
class Wait(Action):
    """Time passes."""

    seconds: float

    def happen(self, world: World) -> None:
        world.elapse(self.seconds)
