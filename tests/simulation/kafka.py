"""A Kafka of one broker: logs, transactions whose markers arrive one by one, compaction, committed positions.

    begin ──► append … ──► add positions ──► decided: commit or abort
                                                └── markers on their way: a log after another learns of it, and so
                                                    do the group's positions; until then readers wait

Nothing here has a clock or chance of its own: whoever holds the broker says when a marker arrives or a log is
compacted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from streamer.core.events import NO_TIMESTAMP, Headers, Partition
from streamer.delivery import FencedError, NotNowError, Position
from tests.simulation.group import Group

TOMBSTONE_SECONDS = 24 * 3600.0  # delete.retention.ms: how long a tombstone stays after it was first cleaned
TRANSACTION_SECONDS = 10.0  # transaction.timeout.ms
MARKER_SECONDS = 4.0  # no marker travels longer


class TimedOutError(Exception):
    """The coordinator has given a transaction up; its producer needs a new epoch."""


@dataclass(eq=False)
class Transaction:
    """What one producer sent between begin and commit.

    logs     the logs it wrote to
    pending  those whose marker is on its way; POSITIONS for the group's positions
    output   what it wrote, for whoever checks it: (partition, key, value, headers)
    """

    producer: str
    began: float
    state: str = "open"
    decided: float = 0.0
    logs: set[Partition] = field(default_factory=set)
    pending: set[Partition] = field(default_factory=set)
    positions: dict[Partition, Position] = field(default_factory=dict)
    output: list[tuple[Partition, bytes | None, bytes | None, Headers]] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return self.state != "open" and not self.pending


POSITIONS = Partition("__consumer_offsets", 0)


@dataclass(eq=False, slots=True)
class Entry:
    """A record, or a transaction's marker; transaction None: plain."""

    offset: int
    transaction: Transaction | None
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()
    timestamp: int = NO_TIMESTAMP
    is_marker: bool = False
    cleaned: float | None = None


class Log:
    """One partition of one topic."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.begin = self.end = 0

    def append(
        self, transaction: Transaction | None, key: bytes | None, value: bytes | None, headers: Headers = (),
        timestamp: int = NO_TIMESTAMP,
    ) -> None:  # fmt: skip
        self.entries.append(Entry(self.end, transaction, key, value, headers, timestamp))
        self.end += 1

    def mark(self, transaction: Transaction | None) -> None:
        """A control record: nobody sees it, but it has an offset."""
        self.entries.append(Entry(self.end, transaction, is_marker=True))
        self.end += 1

    def stable(self, partition: Partition) -> int:
        """The last stable offset: before the first record whose transaction has no marker here yet."""
        for entry in self.entries:
            t = entry.transaction
            if t is not None and not entry.is_marker and (t.state == "open" or partition in t.pending):
                return entry.offset
        return self.end

    def read(self, partition: Partition, offset: int, limit: int) -> tuple[list[Entry], int]:
        """Up to `limit` committed records from an offset on, and the position after them."""
        stable, found = self.stable(partition), []
        position = max(offset, self.begin)
        for entry in self.entries:
            if entry.offset < position:
                continue
            if entry.offset >= stable or len(found) == limit:
                return found, max(position, found[-1].offset + 1 if found else entry.offset)
            if is_visible(entry):
                found.append(entry)
        return found, max(position, stable)

    def compact(self, partition: Partition, limit: int, now: float) -> None:
        """Keep the last record of each key below `limit`, and tombstones for their time."""
        limit = min(limit, self.stable(partition))
        last = {e.key: e.offset for e in self.entries if e.offset < limit and is_visible(e)}
        kept = []
        for entry in self.entries:
            if entry.offset < limit and not entry.is_marker:
                if not is_visible(entry) or last[entry.key] != entry.offset:
                    continue
                if entry.value is None:
                    entry.cleaned = now if entry.cleaned is None else entry.cleaned
                    if now - entry.cleaned > TOMBSTONE_SECONDS:
                        continue
            kept.append(entry)
        self.entries = kept

    def retain(self, begin: int) -> None:
        """Retention deletes what is before an offset."""
        self.begin = max(self.begin, min(begin, self.end))
        self.entries = [e for e in self.entries if e.offset >= self.begin]


def is_visible(entry: Entry) -> bool:
    """Whether a `read_committed` reader sees it, its marker granted."""
    return not entry.is_marker and (entry.transaction is None or entry.transaction.state == "commit")


class Broker:
    """on_commit is told of every transaction at the moment it is decided to be committed."""

    def __init__(self, clock: Callable[[], float], on_commit: Callable[[Transaction], None]) -> None:
        self.clock = clock
        self.logs: dict[Partition, Log] = {}
        self.positions: dict[Partition, Position] = {}
        self.group = Group(clock)
        self.transactions: list[Transaction] = []  # those that are not over
        self.on_commit = on_commit
        self._epochs: dict[str, int] = {}
        self._timed_out: set[str] = set()

    def log(self, partition: Partition) -> Log:
        return self.logs.setdefault(partition, Log())

    def initialise(self, producer: str) -> int:
        """InitProducerId: ends what the producer's predecessor left, and shuts it out."""
        for transaction in self._of(producer):
            if transaction.state == "open":
                self._decide(transaction, "abort")
            self._settle(transaction)
        self._timed_out.discard(producer)
        self._epochs[producer] = self._epochs.get(producer, 0) + 1
        return self._epochs[producer]

    def check(self, producer: str, epoch: int) -> None:
        if self._epochs[producer] == epoch:
            return
        if producer in self._timed_out and self._epochs[producer] == epoch + 1:
            raise TimedOutError
        raise FencedError(f"producer {producer!r} has a successor")

    def begin(self, producer: str, epoch: int) -> Transaction:
        self.check(producer, epoch)
        for transaction in self._of(producer):
            self._settle(transaction)  # the coordinator says CONCURRENT_TRANSACTIONS until then, and clients wait
        transaction = Transaction(producer, self.clock())
        self.transactions.append(transaction)
        return transaction

    def append(self, transaction: Transaction, epoch: int, partition: Partition, key: bytes | None,
               value: bytes | None, headers: Headers) -> None:  # fmt: skip
        self.check(transaction.producer, epoch)
        transaction.logs.add(partition)
        transaction.output.append((partition, key, value, headers))
        self.log(partition).append(transaction, key, value, headers)

    def end(self, transaction: Transaction, epoch: int, how: str) -> None:
        """EndTxn; repeating it is harmless."""
        self.check(transaction.producer, epoch)
        if transaction.state == "open":
            self._decide(transaction, how)

    def give_up(self, transaction: Transaction) -> None:
        """transaction.timeout.ms is over."""
        if transaction.state == "open":
            self._epochs[transaction.producer] += 1
            self._timed_out.add(transaction.producer)
            self._decide(transaction, "abort")

    def deliver(self, transaction: Transaction, where: Partition) -> None:
        """One marker arrives."""
        transaction.pending.discard(where)
        if where != POSITIONS:
            self.log(where).mark(transaction)
        elif transaction.state == "commit":
            self.positions.update(transaction.positions)
        self.transactions = [t for t in self.transactions if not t.is_over]

    def committed(self, partition: Partition) -> Position | None:
        """The stable committed position. Raises NotNowError while a pending transaction may change it."""
        for transaction in self.transactions:
            if partition in transaction.positions and (transaction.state == "open" or POSITIONS in transaction.pending):
                raise NotNowError(f"a pending transaction holds a position of {partition}")
        return self.positions.get(partition)

    def pass_time(self, slow: Mapping[str, float]) -> None:
        """What the clock alone brings about; slow: seconds that markers to a topic take longer."""
        now = self.clock()
        for t in list(self.transactions):
            if t.state == "open" and now - t.began > TRANSACTION_SECONDS:
                self.give_up(t)
            for where in sorted(t.pending):
                if now - t.decided > MARKER_SECONDS + slow.get(where.topic, 0.0):
                    self.deliver(t, where)
        self.group.pass_time()

    def _of(self, producer: str) -> list[Transaction]:
        return [t for t in self.transactions if t.producer == producer]

    def _settle(self, transaction: Transaction) -> None:
        for where in sorted(transaction.pending):
            self.deliver(transaction, where)

    def _decide(self, transaction: Transaction, how: str) -> None:
        transaction.state, transaction.decided = how, self.clock()
        transaction.pending = set(transaction.logs) | ({POSITIONS} if transaction.positions else set())
        if how == "commit":
            self.on_commit(transaction)
        self.transactions = [t for t in self.transactions if not t.is_over]
