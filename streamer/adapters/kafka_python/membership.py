"""Which partitions are ours, as the group's rebalances say.

kafka-python calls the listener on its I/O thread while `poll` waits in ours, so the two never touch this at once.
There, whatever blocks on the consumer (`commit`, `committed`, `position`) raises; the producer has a thread of its own.

    assigned ──► owned (paused) ──► running ──┬─► revoked: on_revoke, then gone; no one else has them before
                                              └─► lost: gone; nothing of them may be committed any more
"""

import logging
from collections.abc import Callable, Collection
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.structs import ConsumerGroupMetadata, MemberState

from streamer.core.events import Partition
from streamer.delivery import NotAMemberError, Rebalance
from streamer.kafka.wording import names
from streamer.logs import log


class Membership(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """The consumer's partitions, and the identity under which the group gave them to us.

    owned     ours; a partition stays owned while `on_revoke` runs
    running   owned, and resumed since they came
    revoking  `on_revoke` is running, on the library's I/O thread
    """

    def __init__(self, consumer: KafkaConsumer, on_revoke: Callable[[], None]) -> None:
        self._consumer = consumer
        self._on_revoke = on_revoke
        self._member_id = ""
        self._assigned: set[Partition] = set()
        self._revoked: set[Partition] = set()
        self._failure: Exception | None = None
        self.owned: set[Partition] = set()
        self.running: set[Partition] = set()
        self.revoking = False
        self.closing = False

    @property
    def is_stable(self) -> bool:
        """Whether we have joined, and no rebalance is under way as far as we know."""
        return bool(self._consumer.group_metadata().state == MemberState.STABLE)

    @property
    def member_ids(self) -> set[str]:
        """What the group has called us, the last time it gave us partitions, and now."""
        return {self._member_id, str(self._consumer.group_metadata().member_id)}

    def group(self) -> ConsumerGroupMetadata:
        """The membership that positions are committed with. Raises NotAMemberError where there is none."""
        group = self._consumer.group_metadata()
        if group.generation_id < 0 or group.member_id != self._member_id:
            # A broker takes a transaction's positions from whoever claims no generation, even in a group at work.
            raise NotAMemberError(f"not a member of group {group.group_id!r} at present: poll, to join it again")
        return group

    def rebalance(self) -> Rebalance | None:
        """What changed since the last call; a partition in both sets went and came back."""
        if not self._assigned and not self._revoked:
            return None
        change = Rebalance(assigned=frozenset(self._assigned), revoked=frozenset(self._revoked))
        self._assigned, self._revoked = set(), set()
        return change

    def check(self) -> None:
        """To be called after each poll: raise what `on_revoke` raised, and see whether we are who we were.

        When the group drops a member that is just joining, the library joins again as another one, and keeps the
        partitions as if nothing had happened; meanwhile they may have been another's.
        """
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if self._was_dropped():
            self._take_again()

    async def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """Called by the library: partitions came."""
        if self._was_dropped():
            self._take_again()
        self._member_id = self._consumer.group_metadata().member_id
        self._take({Partition(*partition) for partition in assigned} - self.owned)

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        """Called by the library: partitions are asked back, and no one else has them until this returns."""
        if self.closing:
            return
        partitions = {Partition(*partition) for partition in revoked}
        if self._was_dropped():
            self._take_again()
            return
        self.revoking = True
        try:
            self._on_revoke()
        except Exception as error:
            self._failure = error  # raised here, it would only be logged
        finally:
            self.revoking = False
            self._forget(partitions)
        log("partitions_revoked", partitions=names(partitions))

    async def on_partitions_lost(self, lost: Collection[Any]) -> None:
        """Called by the library: the group went on without us, and others may have these partitions already."""
        partitions = {Partition(*partition) for partition in lost}
        self._forget(partitions)
        log("partitions_lost", logging.WARNING, partitions=names(partitions))

    def _was_dropped(self) -> bool:
        group = self._consumer.group_metadata()
        return bool(self.owned) and group.generation_id >= 0 and group.member_id != self._member_id

    def _take_again(self) -> None:
        """All partitions were lost, unnoticed by the library; those that it has now came afterwards."""
        before = set(self.owned)
        self._forget(before)
        log("partitions_lost", logging.WARNING, partitions=names(before))
        self._member_id = self._consumer.group_metadata().member_id
        self._take({Partition(*partition) for partition in self._consumer.assignment()})

    def _take(self, partitions: set[Partition]) -> None:
        topic_partitions = [TopicPartition(*partition) for partition in partitions]
        self._consumer.pause(*topic_partitions)
        for partition in topic_partitions:
            # Some position: without one, each poll would wait for the committed one, and that for transactions.
            self._consumer.seek(partition, 0)
        self.owned |= partitions
        self._assigned |= partitions
        if partitions:
            log("partitions_assigned", partitions=names(partitions))

    def _forget(self, partitions: set[Partition]) -> None:
        self.owned -= partitions
        self.running -= partitions
        self._assigned -= partitions
        self._revoked |= partitions
