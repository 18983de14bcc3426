"""One process's client and reader on the simulated Kafka, with places in every call where the world may turn.

A place is a name, one of PLACES. There the world may run other processes, let markers arrive, kill this process, or
make the call fail.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from streamer.core.events import Partition, Records
from streamer.delivery import (
    AbortedError,
    FencedError,
    Messages,
    NotAMemberError,
    NotNowError,
    OutcomeUnknownError,
    Position,
    Rebalance,
)
from tests.simulation.kafka import Broker, TimedOutError, Transaction

FAR = 1_000_000
NOBODY = -1  # a generation: not a member
PLACES = ("poll", "join", "assigned", "revoke", "begin", "produce", "positions", "commit", "committed", "fetch", "end",
          "read", "recover", "hold")  # fmt: skip
ASKING = ("fetch", "end", "read", "recover")  # places where a broker may not answer


class World(Protocol):
    """What a client sees of the world around it."""

    broker: Broker

    def place(self, client: "SimClient", name: str) -> None: ...

    def elapse(self, seconds: float) -> None: ...

    def sends(self, client: "SimClient", positions: Mapping[Partition, Position]) -> None: ...

    def starts(self, client: "SimClient", positions: Mapping[Partition, Position]) -> None: ...


class SimClient:
    """`streamer.delivery.KafkaClient`.

    place    its fixed name in the group, if it has one
    deaf     polls in which it hears nothing of the group
    fails    whether the call at hand fails at its present place
    backlog  whether there is far more to read, as far as the loop hears
    outcome  how the next commit goes: "" well; unknown and "done", "lost" or "late"
    """

    def __init__(
        self, world: World, name: str, records_per_poll: int, late: list[Callable[[], None]], place: str = ""
    ) -> None:
        self._world, self.name, self._limit, self._place = world, name, records_per_poll, place
        self._broker = world.broker
        self.member, self.generation, self._epoch = 0, NOBODY, 0
        self.owned: set[Partition] = set()
        self.fails, self.deaf, self.backlog = False, 0, False
        self.outcome = ""
        self.late = late
        self.closed = False
        self._reading: dict[Partition, int] = {}
        self._came: set[Partition] = set()
        self._went: set[Partition] = set()

    def start(self, on_revoke: Callable[[], None]) -> None:
        self._on_revoke = on_revoke
        self._epoch = self._broker.initialise(self.name)
        if not self._place:  # a fixed name is taken when the process joins, after it has begun to produce
            self.member = self._broker.group.enter()

    def poll(self, timeout_seconds: float, max_records: int) -> list[Records]:
        self.at("poll")
        self._take_part()
        found = [self._fetch(p, min(self._limit, max_records)) for p in sorted(self._reading)]
        batch = [records for records in found if records is not None]
        self._world.elapse(0.03 if batch else max(timeout_seconds, 0.01))  # a poll takes a little time at least
        return batch

    def hold(self, timeout_seconds: float) -> None:
        self.at("hold")
        self._take_part()
        self._world.elapse(timeout_seconds)

    def rebalance(self) -> Rebalance | None:
        if not self._came and not self._went:
            return None
        change, self._came, self._went = Rebalance(sorted(self._came), sorted(self._went)), set(), set()
        return change

    def is_member(self) -> bool:
        return self.generation != NOBODY

    def resume(self, partition: Partition, offset: int) -> None:
        self._reading[partition] = offset

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Position | None]:
        self.at("fetch")
        return {partition: self._broker.committed(partition) for partition in partitions}

    def starting_offset(self, partition: Partition) -> int:
        self.at("fetch")
        return self._broker.log(partition).begin

    def beginning(self, partition: Partition) -> int:
        return self._broker.log(partition).begin

    def commit_positions(self, positions: Mapping[Partition, Position]) -> None:
        self.at("positions")
        self._world.starts(self, positions)
        if not self._broker.group.accepts(self.member, self.generation):
            raise NotAMemberError("not of this generation")
        self._broker.positions.update(positions)

    def transact(self, output: Sequence[Messages], positions: Mapping[Partition, Position]) -> None:
        self._world.sends(self, positions)
        try:
            self._transact(output, positions)
        except TimedOutError:
            raise OutcomeUnknownError("the transaction took too long") from None
        except FencedError:
            self._check_place()
            if not self._place:
                raise
            raise OutcomeUnknownError("too long, or somebody else") from None

    def _transact(self, output: Sequence[Messages], positions: Mapping[Partition, Position]) -> None:
        self.at("begin")
        if self.generation == NOBODY:
            raise NotAMemberError("not even begun")
        transaction = self._broker.begin(self.name, self._epoch)
        self._produce(transaction, output)
        self.at("positions", transaction)
        self._broker.check(self.name, self._epoch)
        if not self.knows_its_place():
            self._broker.end(transaction, self._epoch, "abort")
            self._check_place()
            raise NotAMemberError(f"generation {self.generation}")
        transaction.positions.update(positions)
        self.at("commit", transaction)
        outcome, self.outcome = self.outcome, ""
        epoch = self._epoch
        match outcome:
            case "lost":
                raise OutcomeUnknownError("the request to commit was lost")
            case "late":
                self.late.append(lambda: self._broker.end(transaction, epoch, "commit"))
                raise OutcomeUnknownError("the request to commit is on its way")
        self._broker.end(transaction, epoch, "commit")
        if outcome == "done":
            raise OutcomeUnknownError("the answer was lost")
        self.at("committed")

    def knows_its_place(self) -> bool:
        """Whether positions may be sent, and the group takes them: a generation below 0 it would not even check."""
        return self.generation != NOBODY and self._broker.group.accepts(self.member, self.generation)

    def recover(self) -> None:
        self._check_place()
        self.at("recover")
        self._epoch = self._broker.initialise(self.name)

    def _check_place(self) -> None:
        if self._place and self._broker.group.is_taken(self._place, self.member):
            raise FencedError(f"{self._place!r} is another's")

    def lag(self) -> Mapping[Partition, int]:
        found = {p: max(0, self._broker.log(p).end - offset) for p, offset in self._reading.items()}
        return {p: FAR * lag for p, lag in found.items()} if self.backlog else found

    def close(self) -> None:
        self.closed = True
        self._broker.group.put_out(self.member)

    def heartbeat(self) -> None:
        """On the client's own thread: learn that the group has put us out."""
        if self.member not in self._broker.group.members:
            self.generation = NOBODY

    def _produce(self, transaction: Transaction, output: Sequence[Messages]) -> None:
        for messages in output:
            self.at("produce", transaction)
            none = [()] * len(messages.keys)
            for key, value, headers in zip(messages.keys, messages.values, messages.headers or none, strict=True):
                self._broker.append(transaction, self._epoch, messages.partition, key, value, headers)

    def _take_part(self) -> None:
        """Let the group rebalance, as far as it can without the others."""
        group = self._broker.group
        self.deaf = max(0, self.deaf - 1)
        if self.deaf:
            return
        if self.member not in group.members:
            if self.member:
                self._check_place()
            self._forget(set(self.owned))
            self.member, self.generation = group.enter(self._place), NOBODY
        for _ in range(3):
            if group.may_join(self.member):
                group.join(self.member, self.owned)
                self.at("join")
            given = group.assignment(self.member)
            if given is None:
                return
            self.generation = group.generation
            if revoked := self.owned - given:
                self.at("revoke")
                self._on_revoke()
                self._forget(revoked)
                group.rebalance()
            self._came |= given - self.owned
            self.owned |= given
            self.at("assigned")

    def _forget(self, partitions: set[Partition]) -> None:
        self.owned -= partitions
        self._came -= partitions
        self._went |= partitions
        for partition in partitions:
            self._reading.pop(partition, None)

    def _fetch(self, partition: Partition, limit: int) -> Records | None:
        records, self._reading[partition] = read(self._broker, partition, self._reading[partition], limit)
        return records

    def at(self, name: str, transaction: Transaction | None = None) -> None:
        """A place in a call; what the world lets fail here fails as it does with Kafka."""
        self.fails = False
        self._world.place(self, name)
        if self.fails and transaction is not None:
            self._broker.end(transaction, self._epoch, "abort")
            raise AbortedError(f"the world said so at {name!r}")
        if self.fails and name in ASKING:
            raise NotNowError(f"the world said so at {name!r}")


class SimReader:
    """`streamer.delivery.LogReader`; a few records at a time."""

    def __init__(self, client: SimClient, broker: Broker, limit: int) -> None:
        self._client, self._broker, self._limit = client, broker, limit
        self._partition, self._position = Partition("", 0), 0

    def end(self, partition: Partition) -> int:
        self._client.at("end")
        return self._broker.log(partition).end

    def begin(self, partition: Partition) -> int:
        return self._broker.log(partition).begin

    def seek(self, partition: Partition, offset: int) -> None:
        self._partition, self._position = partition, offset

    def rest(self) -> None:
        self._partition = Partition("", 0)

    def read(self, timeout_seconds: float) -> tuple[Records | None, int]:
        self._client.at("read")
        records, self._position = read(self._broker, self._partition, self._position, self._limit)
        return records, self._position

    def close(self) -> None:
        pass


def read(broker: Broker, partition: Partition, offset: int, limit: int) -> tuple[Records | None, int]:
    """Committed records and the position after them."""
    entries, position = broker.log(partition).read(partition, offset, limit)
    if not entries:
        return None, position
    columns = [
        [e.offset for e in entries],
        [e.timestamp for e in entries],
        [e.key for e in entries],
        [e.value for e in entries],
    ]
    return Records(partition, *columns), position
