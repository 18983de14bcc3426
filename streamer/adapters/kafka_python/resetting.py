"""The group from outside, for the state commands: its members and positions seen, and its snapshots forgotten."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kafka.errors import KafkaError
from kafka.structs import ConsumerGroupMetadata

from streamer.adapters.kafka_python.connecting import admin_client, open_client, refusals
from streamer.adapters.kafka_python.inspection import committed_positions, group_members
from streamer.adapters.kafka_python.metadata import offsets_of
from streamer.adapters.kafka_python.options import BATCH_BYTES, quiet_library, transaction_options
from streamer.adapters.kafka_python.producer import TransactionalProducer
from streamer.adapters.kafka_python.topics import partition_counts
from streamer.core.events import Partition
from streamer.delivery import DeliveryError, Position
from streamer.kafka.wording import without_secrets
from streamer.settings import KafkaSettings, OutputSettings

TRANSACTION_KEYS = 20_000  # a second or two of sending, of the ten that a transaction may be open
STEP_SECONDS = 8.0
ABANDON_SECONDS = 1.0


class KafkaPythonGroup:
    """`streamer.state.GroupState`."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        quiet_library()

    def members(self) -> Sequence[str]:
        """Who is in the group now."""
        return group_members(self._kafka)

    def partitions(self, topics: Sequence[str]) -> Mapping[str, int]:
        """The number of partitions of each topic; 0 where it does not exist."""
        with admin_client(self._kafka) as admin:
            return partition_counts(admin, topics)

    def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Position | None]:
        """The committed positions, once no pending transaction can change them."""
        with refusals(self._kafka):
            return committed_positions(self._kafka, partitions)

    def forget(self, tombstones: Mapping[Partition, Sequence[bytes]], positions: Mapping[Partition, Position]) -> None:
        """Write a tombstone for each key, then commit the positions with the last transaction."""
        transactional_id = f"{self._kafka.group_id}-reset"
        options = transaction_options(self._kafka, OutputSettings(), transactional_id, BATCH_BYTES, None)
        producer = open_client(TransactionalProducer, self._kafka, options)
        try:
            producer.init_transactions()
            shares = list(_shares(tombstones)) or [[]]
            for share in shares[:-1]:
                self._transact(producer, share, {})
            self._transact(producer, shares[-1], positions)
        except KafkaError as error:
            told = without_secrets(error, self._kafka)
            raise DeliveryError(
                f"the reset of group {self._kafka.group_id!r} was cut short: {type(error).__name__}: {told}; "
                "check that no member has joined and the permissions of this user, and run it again"
            ) from None
        finally:
            producer.abandon(ABANDON_SECONDS)

    def _transact(
        self, producer: Any, share: Sequence[tuple[Partition, bytes]], positions: Mapping[Partition, Position]
    ) -> None:
        """One transaction; one that fails is left to the coordinator, which aborts it when its time is over."""
        producer.begin_transaction()
        deadline = time.monotonic() + STEP_SECONDS
        sent = [producer.send(topic, None, key, None, number) for (topic, number), key in share]
        for future in sent:
            future.get(timeout=max(0.0, deadline - time.monotonic()))
        if positions:
            outside = ConsumerGroupMetadata(self._kafka.group_id)  # no member: taken while the group is empty
            producer.send_offsets(offsets_of(positions), outside, max(0.0, deadline - time.monotonic()))
        producer.await_commit(producer.ask_to_commit(), STEP_SECONDS)


def _shares(tombstones: Mapping[Partition, Sequence[bytes]]) -> Iterator[list[tuple[Partition, bytes]]]:
    every = [(partition, key) for partition, keys in tombstones.items() for key in keys]
    for at in range(0, len(every), TRANSACTION_KEYS):
        yield every[at : at + TRANSACTION_KEYS]
