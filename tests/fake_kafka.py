"""A Kafka client without a broker: what it delivers is scripted, what it is asked is kept, time moves by hand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event

from streamer.core.events import Partition, Records
from streamer.daemon import Clocks
from streamer.delivery import Messages, Rebalance


@dataclass(frozen=True)
class Elapse:
    """Time that passes in one poll without a record."""

    seconds: float


@dataclass
class FakeKafka:
    """Delivers a script, one item a poll: `Records`, a `Rebalance`, or an `Elapse`; then sets `stop`.

    A rebalance that revokes asks for the commit first, as the real clients do. `commits` keeps each commit.
    """

    script: Sequence[Records | Rebalance | Elapse]
    stop: Event = field(default_factory=Event)
    now: float = 0.0
    commits: list[tuple[list[Messages], dict[Partition, int]]] = field(default_factory=list)
    asked_seconds: list[float] = field(default_factory=list)
    closed: bool = False
    behind: Mapping[Partition, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rest = list(self.script)
        self._change: Rebalance | None = None

    @property
    def clocks(self) -> Clocks:
        return Clocks(lambda: self.now, lambda: 1_700_000_000 + self.now)

    def start(self, on_revoke: Callable[[], None]) -> None:
        self._on_revoke = on_revoke

    def poll(self, timeout_seconds: float, max_records: int) -> list[Records]:
        self.asked_seconds.append(timeout_seconds)
        if not self._rest:
            self.stop.set()
            return []
        match self._rest.pop(0):
            case Rebalance() as change:
                if change.revoked:
                    self._on_revoke()
                self._change = change
            case Elapse(seconds):
                self.now += min(seconds, timeout_seconds)
            case Records() as records:
                assert len(records) <= max_records
                return [records]
        return []

    def rebalance(self) -> Rebalance | None:
        change, self._change = self._change, None
        return change

    def commit(self, output: Sequence[Messages], offsets: Mapping[Partition, int]) -> None:
        self.commits.append((list(output), dict(offsets)))

    def lag(self) -> Mapping[Partition, int]:
        return self.behind

    def close(self) -> None:
        self.closed = True
