"""A consumer group: members, generations, and cooperative rebalances in two rounds.

Every member joins a round with what it owns; partitions that should go to another member are first taken away, and
handed over only in the next round, when nobody owns them any more.
"""

from collections.abc import Callable, Collection

from streamer.core.events import Partition

JOIN_SECONDS = 8.0  # the rebalance timeout: who has not joined by then is out
SESSION_SECONDS = 30.0


class Group:
    """Members are numbers, and a member that was put out comes back under another one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.partitions: list[Partition] = []
        self.generation = 0
        self.members: dict[int, float | None] = {}  # when their process died, None while it lives
        self.joining = False
        self.turn = 0  # whose partitions come first
        self._places: dict[str, int] = {}  # who has a fixed name
        self._joined: dict[int, frozenset[Partition]] = {}
        self._assignments: dict[int, frozenset[Partition]] = {}
        self._since = 0.0
        self._numbers = 0

    def enter(self, name: str = "") -> int:
        """A new member, which sets off a rebalance; one with a fixed name puts out whoever had it."""
        self._numbers += 1
        self.members[self._numbers] = None
        if name:
            self.members.pop(self._places.get(name, 0), None)
            self._places[name] = self._numbers
        self.rebalance()
        return self._numbers

    def rebalance(self) -> None:
        self.joining, self._joined, self._assignments = True, {}, {}
        self._since = self._clock()

    def put_out(self, member: int) -> None:
        """The group has lost patience with a member, or it leaves."""
        if self.members.pop(member, self) is not self:
            self.rebalance()

    def may_join(self, member: int) -> bool:
        return self.joining and member in self.members and member not in self._joined

    def join(self, member: int, owned: Collection[Partition]) -> None:
        self._joined[member] = frozenset(owned)
        if self._joined.keys() == self.members.keys():
            self._complete()

    def assignment(self, member: int) -> frozenset[Partition] | None:
        """What a completed round gave to a member; told once."""
        return self._assignments.pop(member, None)

    def is_taken(self, name: str, member: int) -> bool:
        """Whether a fixed name is another member's."""
        return self._places.get(name, member) != member

    def accepts(self, member: int, generation: int) -> bool:
        return member in self.members and generation == self.generation

    def pass_time(self) -> None:
        now = self._clock()
        for member, died in list(self.members.items()):
            late = self.joining and member not in self._joined and now - self._since > JOIN_SECONDS
            if late or (died is not None and now - died > SESSION_SECONDS):
                self.members.pop(member)
                self.rebalance()

    def _complete(self) -> None:
        self.generation += 1
        self.joining = False
        held = {p: member for member, owned in self._joined.items() for p in owned}
        names = sorted(self.members)
        names = names[self.turn % len(names) :] + names[: self.turn % len(names)]
        given: dict[int, set[Partition]] = {member: set() for member in names}
        for i, partition in enumerate(self.partitions):
            target = names[i % len(names)]
            if held.get(partition, target) == target:
                given[target].add(partition)
        self._assignments = {member: frozenset(partitions) for member, partitions in given.items()}
        self._joined = {}
