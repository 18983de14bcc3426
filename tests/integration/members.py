"""Members of a group for tests: the daemon's client with the least that a daemon does around it."""

import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from streamer.adapters.kafka_python import KafkaPythonClient
from streamer.adapters.kafka_python.cluster import KafkaPythonCluster
from streamer.adapters.librdkafka import LibrdkafkaClient
from streamer.core.events import Partition
from streamer.delivery import KafkaClient, Messages, NotAMemberError, NotNowError, Position
from streamer.settings import InputSettings, KafkaSettings, OutputSettings
from tests.integration.records import committed_offsets, read_committed
from tests.integration.waiting import eventually


def client_of(kafka: KafkaSettings, input_: InputSettings, output: OutputSettings) -> KafkaClient:
    """The client that `kafka.client` names."""
    if kafka.client == "kafka-python":
        return KafkaPythonClient(kafka, input_, output)
    return LibrdkafkaClient(kafka, input_, output, KafkaPythonCluster(kafka, input_, output))


class Member:
    """A client and what it has read, by partition number; what came is read from its commit, or where it begins."""

    def __init__(self, bootstrap: str, topic: str, output: str, group: str | None = None, **options: object) -> None:
        self.topic, self.output, self.group = topic, output, group or f"group-{uuid.uuid4().hex[:8]}"
        self.bootstrap = bootstrap
        self.start_at = options.pop("start", "earliest")
        self.dead_letter_topic = options.pop("dead_letter_topic", "")
        self.on_revoke: Callable[[], None] = lambda: None
        kafka_options = options.pop("options", {})
        self.kafka = KafkaSettings(bootstrap_servers=bootstrap, group_id=self.group, options=kafka_options, **options)
        self.client = client_of(
            self.kafka,
            InputSettings(topics=[topic], start=self.start_at),
            OutputSettings(topic=output, dead_letter_topic=self.dead_letter_topic),
        )
        self.values: dict[int, list[bytes | None]] = defaultdict(list)
        self.positions: dict[Partition, Position] = {}
        self.owned: set[int] = set()
        self.gone: set[int] = set()  # at least once; they may have come back in the same poll
        self.fresh: set[Partition] = set()
        self.is_taken_in = False

    def poll(self) -> int:
        """Read once, briefly; how many records came."""
        batches = self.client.poll(timeout_seconds=0.05, max_records=1_000)
        if change := self.client.rebalance():
            self.owned = self.owned - {p.number for p in change.revoked} | {p.number for p in change.assigned}
            self.gone |= {p.number for p in change.revoked}
            self.fresh = self.fresh - change.revoked | change.assigned
            for partition in change.revoked:
                self.positions.pop(partition, None)
        for records in batches:
            self.values[records.partition.number] += records.values
            self.positions[records.partition] = Position(records.offsets[-1] + 1, "read")
        for partition in sorted(self.fresh):
            self.begin(partition)
        self.is_taken_in = self.client.is_member()  # asked where it is polled, as the daemon does
        return sum(map(len, batches))

    def begin(self, partition: Partition) -> None:
        """Read a new partition from its commit, or where it begins, which is committed; or try again later."""
        try:
            at = self.client.committed([partition])[partition]
            if at is None:
                at = Position(self.client.starting_offset(partition), "start")
                self.client.commit_positions({partition: at})
        except (NotNowError, NotAMemberError):
            return
        self.client.resume(partition, at.offset)
        self.fresh.discard(partition)

    def read(self, count: int) -> "Member":
        """Poll until that many records have been read in all."""
        eventually(lambda: polled(self) and self.count >= count, f"{count} records read")
        return self

    def join(self) -> "Member":
        """Poll until this member has partitions, and reads all it has."""
        eventually(lambda: polled(self) and self.owned and not self.fresh, "partitions")
        return self

    @property
    def count(self) -> int:
        """How many records have been read in all."""
        return sum(map(len, self.values.values()))

    def commit(self, *messages: Messages) -> None:
        """Commit messages and all that was read."""
        self.client.transact(messages, self.positions)

    def forecasts(self, *values: bytes, partition: int = 0) -> Messages:
        return Messages(Partition(self.output, partition), keys=[b"stream"] * len(values), values=values)

    def dead_letters(self, *letters: tuple[bytes | None, bytes | None], partition: int = 0) -> Messages:
        keys, values = zip(*letters, strict=True)
        headers = [[("origin", b"1"), ("__streams.errors.exception", b"not_json")]] * len(letters)
        return Messages(Partition(self.dead_letter_topic, partition), keys, values, headers)

    @property
    def committed(self) -> dict[int, int]:
        return committed_offsets(self.bootstrap, self.group, self.topic)


def identity_of(member: Member) -> tuple[int, str]:
    """The group's generation and the member's id, as its library knows them; below 0 or empty outside the group."""
    if member.kafka.client == "kafka-python":
        group = member.client._consumer.group_metadata()
        return group.generation_id, group.member_id
    generation, member_id = member.client._membership._identity()
    return generation, member_id


def is_member(member: Member) -> bool:
    """Whether it has joined, as far as its library says."""
    if member.kafka.client == "kafka-python":
        return bool(member.client._membership.is_stable)
    generation, member_id = identity_of(member)
    return generation >= 0 and member_id != ""


def polled(*members: Member) -> bool:
    """True, after each has polled once."""
    for member in members:
        member.poll()
    return True


@contextmanager
def polling(*members: Member) -> Iterator[None]:
    """Each member polls in a thread of its own, as it would in a process of its own."""
    over = threading.Event()

    def poll(member: Member) -> None:
        while not over.is_set():
            member.poll()

    with ThreadPoolExecutor(len(members)) as pool:
        threads = [pool.submit(poll, member) for member in members]
        try:
            yield
        finally:
            over.set()
        for thread in threads:
            thread.result()


@contextmanager
def running(*members: Member) -> Iterator[Sequence[Member]]:
    """The members joined to their groups."""
    try:
        for member in members:
            member.client.start(on_revoke=lambda member=member: member.on_revoke())
        yield members
    finally:
        for member in members:
            member.client.close()


def values(member: Member) -> list[bytes | None]:
    return [record.value for record in read_committed(member.bootstrap, member.output)]


def at(member: Member, number: int, offset: int, metadata: str = "") -> dict[Partition, Position]:
    return {Partition(member.topic, number): Position(offset, metadata)}


def committed(member: Member, *numbers: int) -> list[Position | None]:
    partitions = [Partition(member.topic, number) for number in numbers]
    found: list = []

    def answered() -> bool:
        try:
            found[:] = member.client.committed(partitions).values()
        except NotNowError:
            return False
        return True

    eventually(answered, "committed positions")
    return found


def recovered(member: Member) -> bool:
    try:
        member.client.recover()
    except NotNowError:
        return False
    return True
