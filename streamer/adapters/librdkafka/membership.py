"""Which partitions are ours, as the group's rebalances say.

librdkafka calls back inside `consume`, on our own thread. A partition that came is ours, but the library is told to
read it only when it is resumed: until then nothing of it is fetched.

    assigned ──► owned ──► running ──┬─► revoked: on_revoke, then gone; no one else has them before
                                     └─► lost: gone; nothing of them may be committed any more
"""

import logging
import struct
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streamer.core.events import Partition
from streamer.delivery import NotAMemberError, Rebalance
from streamer.kafka.wording import names
from streamer.logs import log

METADATA_MAGIC = b"CGMDv2:"  # then the generation (int32), the group and the member, each ended by a zero
GENERATION = struct.Struct("=i")


class Membership:
    """The consumer's partitions, and the identity under which the group gave them to us.

    is_taken  given what the group has called us: whether another process has our `kafka.group_instance_id` now
    owned       ours; a partition stays owned while `on_revoke` runs
    running     owned, and resumed since they came
    revoking    `on_revoke` is running
    name_taken  another process has our name: this one is to end
    """

    def __init__(
        self,
        consumer: Consumer,
        on_revoke: Callable[[], None],
        is_taken: Callable[[Collection[str]], bool] = lambda member_ids: False,
    ) -> None:
        self._consumer = consumer
        self._on_revoke = on_revoke
        self._is_taken = is_taken
        self.name_taken = False
        self._member_id = ""
        self._assigned: set[Partition] = set()
        self._revoked: set[Partition] = set()
        self._failure: Exception | None = None
        self.owned: set[Partition] = set()
        self.running: set[Partition] = set()
        self.revoking = False
        self.closing = False

    def join_again(self, consumer: Consumer, topics: list[str]) -> None:
        """Be another consumer from now on; what was ours is lost."""
        lost, self._consumer, self._member_id = set(self.owned), consumer, ""
        self._forget(lost)
        if lost:
            log("partitions_lost", logging.WARNING, partitions=names(lost))
        self.subscribe(topics)

    def subscribe(self, topics: list[str]) -> None:
        """Join the group, as soon as it is polled."""
        self._consumer.subscribe(topics, on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)

    @property
    def member_ids(self) -> set[str]:
        """What the group has called us, the last time it gave us partitions, and now."""
        return {self._member_id, self._identity()[1]}

    @property
    def is_member(self) -> bool:
        """Whether the group has taken us in, as far as the library says."""
        generation, member_id = self._identity()
        return generation >= 0 and member_id != ""

    def group(self) -> bytes:
        """The membership that positions are committed with. Raises NotAMemberError where there is none."""
        generation, member_id = self._identity()
        if generation < 0 or member_id != self._member_id:
            # A broker takes a transaction's positions from whoever claims no generation, even in a group at work.
            raise NotAMemberError("not a member of the group at present: poll, to join it again")
        return bytes(self._consumer.consumer_group_metadata())

    def run(self, partition: Partition, offset: int) -> None:
        """Read an owned partition from the offset on."""
        if partition in self.running:
            self._consumer.incremental_unassign([TopicPartition(*partition)])
        self._consumer.incremental_assign([TopicPartition(*partition, offset)])
        # one that was lost while it was paused stays so in the library, even when it is assigned anew
        self._consumer.resume([TopicPartition(*partition)])
        self.running.add(partition)

    def topic_partitions(self) -> list[TopicPartition]:
        """The running partitions, as the library names them."""
        return [TopicPartition(*partition) for partition in self.running]

    def rebalance(self) -> Rebalance | None:
        """What changed since the last call; a partition in both sets went and came back."""
        if not self._assigned and not self._revoked:
            return None
        change = Rebalance(assigned=frozenset(self._assigned), revoked=frozenset(self._revoked))
        self._assigned, self._revoked = set(), set()
        return change

    def check(self) -> None:
        """To be called after each poll: raise what `on_revoke` raised."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _assign(self, consumer: Consumer, assigned: list[Any]) -> None:
        """Called by the library: partitions came; while it closes, it no longer answers who we are, and would hang."""
        if self.closing or consumer is not self._consumer:
            return
        self._consumer.incremental_assign([])
        self._member_id = self._identity()[1]
        partitions = {Partition(each.topic, each.partition) for each in assigned} - self.owned
        self.owned |= partitions
        self._assigned |= partitions
        if partitions:
            log("partitions_assigned", partitions=names(partitions))

    def _revoke(self, consumer: Consumer, revoked: list[Any]) -> None:
        """Called by the library: partitions are asked back, and no one else has them until this returns."""
        if consumer is not self._consumer:
            return  # we have joined again without it
        partitions = {Partition(each.topic, each.partition) for each in revoked}
        if not self.closing:
            self.revoking = True
            try:
                self._on_revoke()
            except Exception as error:
                self._failure = error  # raised here, it would leave the library without its answer
            finally:
                self.revoking = False
            log("partitions_revoked", partitions=names(partitions))
        self._give_back(partitions)

    def _lose(self, consumer: Consumer, lost: list[Any]) -> None:
        """Called by the library: the group went on without us, and others may have these partitions already.

        It would join again under our name at once, and so drive out who was given it meanwhile.
        """
        if consumer is not self._consumer:
            return
        partitions = {Partition(each.topic, each.partition) for each in lost}
        if not self.closing and self._is_taken(self.member_ids):
            self.name_taken = True
            with suppress(KafkaException):  # the library may know by itself, and takes no more then
                self._consumer.unsubscribe()
        self._give_back(partitions)
        log("partitions_lost", logging.WARNING, partitions=names(partitions))

    def _give_back(self, partitions: set[Partition]) -> None:
        try:
            self._consumer.incremental_unassign([TopicPartition(*each) for each in partitions & self.running])
        except KafkaException as error:
            self._failure = self._failure or error
        self._forget(partitions)

    def _forget(self, partitions: set[Partition]) -> None:
        self.owned -= partitions
        self.running -= partitions
        self._assigned -= partitions
        self._revoked |= partitions

    def _identity(self) -> tuple[int, str]:
        """Our generation and member id in the group; below 0 and empty outside it."""
        written = bytes(self._consumer.consumer_group_metadata())
        at = len(METADATA_MAGIC)
        if not written.startswith(METADATA_MAGIC):
            raise NotAMemberError(
                "this librdkafka writes the group's metadata in another form; install confluent-kafka 2"
            )
        (generation,) = GENERATION.unpack_from(written, at)
        _group, member_id, *_ = written[at + GENERATION.size :].split(b"\0")
        return generation, member_id.decode()
