"""Which partitions are ours, as the group's rebalances say.

kafka-python calls the listener on its I/O thread while `poll` waits in ours. There only the two asynchronous
requests below are possible: whatever blocks on the consumer (`commit`, `committed`, `position`) raises.

    assigned ──► fresh (paused) ──► owned ──► revoked: on_revoke, offsets, then gone
                                      └─────► lost: gone; nothing of it may be committed any more
"""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from streamer.core.events import Partition
from streamer.delivery import DeliveryError, Rebalance
from streamer.logs import log


class Membership(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """The consumer's partitions, and the offsets that wait to be committed for them.

    owned     ours to read and to commit; a partition stays owned while `on_revoke` runs
    fresh     owned, but paused until it is known where they begin
    began     where the others began: an offset before it is of an earlier time that they were ours
    due       offsets to commit with the next request; those of a partition that went are dropped
    revoking  `on_revoke` is running, on the library's I/O thread
    """

    def __init__(self, consumer: KafkaConsumer, on_revoke: Callable[[], None]) -> None:
        self._consumer = consumer
        self._on_revoke = on_revoke
        self._assigned: set[Partition] = set()
        self._revoked: set[Partition] = set()
        self._failure: Exception | None = None
        self.owned: set[Partition] = set()
        self.fresh: set[Partition] = set()
        self.began: dict[Partition, int] = {}
        self.due: dict[Partition, int] = {}
        self.revoking = False
        self.closing = False

    def rebalance(self) -> Rebalance | None:
        """What changed since the last call; a partition in both sets went and came back."""
        if not self._assigned and not self._revoked:
            return None
        change = Rebalance(assigned=frozenset(self._assigned), revoked=frozenset(self._revoked))
        self._assigned, self._revoked = set(), set()
        return change

    def begin(self, offsets: Mapping[Partition, int]) -> None:
        """Fresh partitions are read from these offsets on."""
        self.began |= offsets
        self.fresh -= offsets.keys()

    def is_due(self, offsets: Mapping[Partition, int]) -> None:
        """Note offsets to commit, but for what is no longer ours: committing it would set its new owner back."""
        self.due |= {p: offset for p, offset in offsets.items() if p in self.began and offset >= self.began[p]}

    def request(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """What is due, as the library takes it."""
        return {TopicPartition(*partition): OffsetAndMetadata(offset) for partition, offset in self.due.items()}

    def raise_failure(self) -> None:
        """Raise what `on_revoke` raised, now that the listener is over."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """Called by the library: partitions came."""
        self._consumer.pause(*assigned)
        partitions = {Partition(*partition) for partition in assigned}
        self.owned |= partitions
        self.fresh |= partitions
        self._assigned |= partitions
        log("partitions_assigned", partitions=_names(partitions))

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        """Called by the library: partitions are asked back, and no one else has them until this returns."""
        if self.closing:
            return
        partitions = {Partition(*partition) for partition in revoked}
        self.revoking = True
        try:
            self._on_revoke()
            if self.due:
                await self._consumer.commit_async(self.request())
                self.due.clear()
        except (DeliveryError, KafkaError) as error:
            # The next owner begins at the last commit: events are forecast twice, none is lost.
            log("revoked_without_commit", logging.WARNING, partitions=_names(partitions), error=error)
        except Exception as error:
            self._failure = error  # raised here, it would only be logged
        finally:
            self.revoking = False
            self._forget(partitions)
        log("partitions_revoked", partitions=_names(partitions))

    async def on_partitions_lost(self, lost: Collection[Any]) -> None:
        """Called by the library: the group went on without us, and others may have these partitions already."""
        partitions = {Partition(*partition) for partition in lost}
        self._forget(partitions)
        log("partitions_lost", logging.WARNING, partitions=_names(partitions))

    def _forget(self, partitions: set[Partition]) -> None:
        self.owned -= partitions
        self.fresh -= partitions
        self._assigned -= partitions
        self._revoked |= partitions
        for partition in partitions:
            self.began.pop(partition, None)
            self.due.pop(partition, None)


def _names(partitions: Collection[Partition]) -> str:
    return ",".join(f"{topic}-{number}" for topic, number in sorted(partitions))
