"""Processes around one Kafka: real daemons advanced turn by turn, a clock moved by hand, faults as data.

    world = World(Setup())
    world.run([Start(0), Feed(0, "a", 1), Turn(0), At(0, "commit", (Kill(0),)), Turn(0), Start(1), Turn(1)])
    world.heal()

Whatever happens, the oracle checks every commit and restore; `heal` ends all faults and waits until all is drained.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

from streamer.adapters.metrics import Metrics
from streamer.assembly import engine_for
from streamer.checkpoint import Checkpoint, SnapshotPolicy, Topics
from streamer.committer import Attempted
from streamer.core.engine import Engine
from streamer.core.events import Partition
from streamer.core.wire import ForecastEncoder
from streamer.daemon import Clocks, Daemon
from streamer.delivery import DeliveryError, FencedError, Position
from streamer.errors import StateError
from streamer.questions import Answer, NotYetError, Question, ask_at_once
from streamer.restore import Restore, RestorePolicy
from streamer.settings import InputSettings, StateSettings
from streamer.tasks import Phase, Task, changelog_of
from tests.simulation.client import SimClient, SimReader
from tests.simulation.kafka import Broker, TimedOutError, Transaction
from tests.simulation.model import HOUR_MS, Chain, OtherChain
from tests.simulation.oracle import DEAD, FORECASTS, FORMAT, OTHER_FORMAT, Oracle, ViolationError

if TYPE_CHECKING:
    from tests.simulation.actions import Action, At

GROUP = "group"
MAX_GAP, IDLE_SLOTS = 3, 4
CHAIN = Chain()
LOOKS = (2, math.inf, 0, math.inf)  # at which an attempt has come to its end, of one after another
PATIENCE = 600  # turns of healing, or holds of one call, after which nothing will move any more


class Killed(BaseException):
    """A process ends here and now."""


@dataclass(frozen=True)
class Setup:
    """names    transactional ids; two processes of one name are a zombie and its successor
    backlog  whether processes read ahead, as if there were far more to read
    watched  whether the oracle checks everything; not where a test breaks facts that no schedule can mend
    """

    watched: bool = True
    dead_letters: str = DEAD
    partitions: int = 2
    names: Sequence[str] = ("p0", "p1")
    static: bool = False
    newer: Sequence[str] = ()
    warm_from_input_steps: int = 0
    evict: bool = True
    every: int = 1
    max_streams: int = 5
    records_per_poll: int = 3
    backlog: bool = False
    records_per_read: int = 2
    snapshot_interval_seconds: float = 2.0
    snapshot_share: float = 0.5
    max_replay_events: int = 1000
    slow: Mapping[str, float] = field(default_factory=dict)  # topics whose markers come later, by seconds
    ask: Callable[[], Callable[[Question], Answer]] = lambda: ask_at_once  # how a process asks in its restores


class AnsweredLate:
    """Answers come at once, or a slice later: as brokers saw it at first, or as they see it by then."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, question: Question) -> Answer:
        self.asked += 1
        if self.asked % 3 == 0:
            return ask_at_once(question)
        found = ask_at_once(question) if self.asked % 3 == 1 else None
        waited = False

        def answer(timeout_seconds: float) -> object:
            nonlocal waited
            if not waited:
                waited = True
                raise NotYetError("a slice later")
            return found(0.0) if found else question()

        return answer


class OneAtATime:
    """A client as the loop has it: not to be used while an attempt is being made with it."""

    def __init__(self, client: SimClient) -> None:
        self._client = client
        self.lent = False

    def __getattr__(self, verb: str) -> Callable[..., object]:
        def call(*given: object, **named: object) -> object:
            if self.lent:
                raise ViolationError(f"{verb} is asked of a client that makes an attempt on another thread")
            return getattr(self._client, verb)(*given, **named)

        return call


class Attempt:
    """An attempt that is made at the n-th look at it, or when it is waited for; at once for 0."""

    def __init__(self, attempt: Callable[[], Attempted], client: OneAtATime, looks: float) -> None:
        self._attempt, self._client, self._looks = attempt, client, looks
        self._result: Attempted | Exception | None = None
        client.lent = True
        if not looks:
            self.end()

    def end(self) -> None:
        """Make it now, unless it was made."""
        self._client.lent = False
        if self._result is None:
            try:
                self._result = self._attempt()
            except Exception as problem:
                self._result = problem

    def done(self) -> bool:
        self._looks -= 1
        if self._looks <= 0:
            self.end()
        return self._result is not None

    def result(self) -> Attempted:
        self.end()
        if isinstance(self._result, tuple):
            return self._result
        assert self._result is not None
        raise self._result


class WatchedRestore(Restore):
    """Says when it is over."""

    def __init__(self, process: "Process", task: Task, *more: object) -> None:
        super().__init__(task, *more)  # type: ignore[arg-type]
        self._process = process

    def slice(self, timeout_seconds: float, now: float) -> bool:
        got_on = super().slice(timeout_seconds, now)
        if self._task.phase is Phase.RUNNING:
            self._process.restored(self._task)
        return got_on


class Process:
    """One daemon and what it holds."""

    def __init__(self, world: "World", name: str, late: list[Callable[[], None]]) -> None:
        setup = world.setup
        self.world, self.alive, self.inside = world, True, 0
        self.armed: list[At] = []
        self.stop = Event()
        self.holds = 0
        model, format_ = (OtherChain(), OTHER_FORMAT) if name in setup.newer else (Chain(), FORMAT)
        self.engine = world.new_engine(setup.max_streams, model)
        self.client = SimClient(world, name, setup.records_per_poll, late, name if setup.static else "")
        self.client.backlog = setup.backlog
        self.guarded = OneAtATime(self.client)
        reader = SimReader(self.client, world.broker, setup.records_per_read)
        topics = Topics(FORECASTS, setup.dead_letters, partial(changelog_of, GROUP))
        policy = SnapshotPolicy(setup.snapshot_interval_seconds, setup.snapshot_share, setup.max_replay_events)
        self.metrics = Metrics(world.clock)
        self.checkpoint = Checkpoint(self.engine, ForecastEncoder(model.manifest), format_, topics, policy)

        steps = setup.warm_from_input_steps
        told = self.metrics.state
        rules = RestorePolicy(GROUP, steps, told.reset, told.rebuilt, told.input_lost, setup.ask())

        def restoring(task: Task) -> Restore:
            self.last_restore = WatchedRestore(self, task, rules, self.guarded, reader, self.engine, format_)
            return self.last_restore

        self.attempts = 0
        self.settlings = 0
        clocks = Clocks(world.clock, lambda: 1_700_000_000 + world.clock(), self.beside, self.settled)
        self.daemon = Daemon(self.engine, self.guarded, self.checkpoint, restoring, self.metrics, 0.1, clocks)

    def beside(self, attempt: Callable[[], Attempted]) -> "Attempt":
        """Of two things at the same time, now the one and now the other is first."""
        self.attempts += 1
        self.last_attempt = Attempt(attempt, self.guarded, LOOKS[self.attempts % len(LOOKS)])
        return self.last_attempt

    def settled(self) -> None:
        self.settlings += 1

    def restored(self, task: Task) -> None:
        if (
            self.world.setup.watched
            and self.client.member in self.world.broker.group.members
            and task.partition in self.client.owned
        ):
            self.world.oracle.restored(task, self.engine)


class World:
    """All of it."""

    def __init__(self, setup: Setup = Setup()) -> None:
        self.setup, self.now, self.healing = setup, 0.0, False
        self.oracle = Oracle(GROUP, partial(self.new_engine, 100))
        self.broker = Broker(self.clock, self._committed)
        self.oracle.broker = self.broker
        self.inputs = [Partition("events", number) for number in range(setup.partitions)]
        self.broker.group.partitions = self.inputs
        self.processes: list[Process | None] = [None] * len(setup.names)
        self.slots: dict[tuple[Partition, str], int] = {}
        self.ended: list[Exception] = []
        self.late: dict[int, list[Callable[[], None]]] = {}

    def clock(self) -> float:
        return self.now

    def new_engine(self, max_streams: int, model: Chain = CHAIN) -> Engine:
        idle = IDLE_SLOTS * HOUR_MS / 1000 if self.setup.evict else 0.0
        state = StateSettings(max_streams=max_streams, idle_seconds=idle)
        return engine_for(model, InputSettings(max_gap_steps=MAX_GAP), state, self.setup.every)

    def run(self, schedule: Sequence["Action"]) -> None:
        for action in schedule:
            action.happen(self)

    def start(self, index: int) -> None:
        """A new process, if the old one is gone."""
        if self.processes[index] is None:
            process = self.processes[index] = Process(self, self.setup.names[index], self.late.setdefault(index, []))
            self._let(index, process.daemon.start)

    def turn(self, index: int) -> None:
        process = self.processes[index]
        if process is not None:
            self._let(index, partial(process.daemon.turn, process.stop))

    def shut_down(self, index: int) -> None:
        """SIGTERM: the last transactions, then it leaves the group."""
        process = self.processes[index]
        if process is not None and not process.inside:
            process.stop.set()
            self._let(index, partial(process.daemon.drain, process.stop))
            process.client.close()
            self._bury(index)

    def kill(self, index: int) -> None:
        process = self.processes[index]
        if process is None:
            return
        if process.inside:
            process.alive = False  # it notices at the next place
        else:
            self._bury(index)

    def place(self, client: SimClient, name: str) -> None:
        """A client has come to a place in a call: whatever was to happen there happens."""
        process = next((p for p in self.processes if p is not None and p.client is client), None)
        if process is None:
            raise Killed
        if name == "hold":
            process.holds += 1
            if process.holds > PATIENCE:
                raise ViolationError("a transaction never ends")
        due = [at for at in process.armed if at.place == name]
        for at in due[:1]:
            process.armed.remove(at)
            self.run(at.actions)
        if not process.alive:
            raise Killed

    def elapse(self, seconds: float) -> None:
        self.now += seconds
        self.broker.pass_time(self.setup.slow)

    def sends(self, client: SimClient, positions: Mapping[Partition, Position]) -> None:
        """A client is asked to commit."""
        if lost := positions.keys() - client.owned:
            raise ViolationError(f"(9) positions of {lost}, which the process knows to be lost")

    def starts(self, client: SimClient, positions: Mapping[Partition, Position]) -> None:
        """A client is asked to commit where partitions begin."""
        self.sends(client, positions)
        for partition, position in positions.items():
            if client.knows_its_place() and self.setup.watched:
                self.oracle.started(partition, position.offset)

    def arrive(self, index: int) -> None:
        """A commit that was on its way arrives."""
        late = self.late.get(index, [])
        while late:
            with suppress(FencedError, TimedOutError):
                late.pop()()

    def heal(self) -> None:
        """No more faults: everyone runs, the input is idle, and everything is answered and covered."""
        self.healing = True
        for process in self.processes:
            if process is not None:
                process.armed.clear()
                process.client.outcome = ""
        for _ in range(PATIENCE):
            for index in range(len(self.processes)):
                if not any(p is not None and p.client.name == self.setup.names[index] for p in self.processes):
                    self.start(index)
                self.turn(index)
            self.elapse(0.5)
            if self.is_drained():
                self.oracle.finish()
                return
        raise ViolationError(f"(3) nothing moves any more: {self.broker.positions}")

    def is_drained(self) -> bool:
        broker = self.broker
        for partition in self.inputs:
            oracle, last = self.oracle.partitions.get(partition), self.oracle.history[partition]
            if oracle is None or oracle.low_water < oracle.committed:
                return False
            if last and oracle.committed <= last[-1].offset:
                return False
        return not broker.transactions and not broker.group.joining

    def _committed(self, transaction: Transaction) -> None:
        if self.setup.watched:
            self.oracle.on_commit(transaction)

    def _let(self, index: int, work: object) -> None:
        process = self.processes[index]
        if process is None or process.inside:
            return
        process.inside, process.holds = 1, 0
        try:
            work()  # type: ignore[operator]
        except Killed:
            self._bury(index)
        except DeliveryError as problem:
            self.ended.append(problem)
            self._bury(index)
        except StateError as problem:
            self.stuck(index, problem)
        finally:
            process.inside = 0

    def stuck(self, index: int, problem: StateError) -> None:
        """What a daemon says when facts do not fit: never, while nobody tampers with them."""
        self.ended.append(problem)
        self._bury(index)
        if self.setup.watched:
            raise ViolationError(f"false alarm: {problem}") from problem

    def _bury(self, index: int) -> None:
        process = self.processes[index]
        if process is not None:
            process.alive = False
            members = self.broker.group.members
            if process.client.member in members:
                members[process.client.member] = self.now
            self.processes[index] = None
