"""The daemon's Kafka client on kafka-python: a member of the consumer group, with a transactional producer."""

import logging
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from kafka import TopicPartition
from kafka.errors import FencedInstanceIdError, KafkaError, KafkaTimeoutError

from streamer.adapters.kafka_python.assignor import ClaimingAssignor
from streamer.adapters.kafka_python.cluster import KafkaPythonCluster
from streamer.adapters.kafka_python.columns import columns
from streamer.adapters.kafka_python.connecting import open_client, refusals
from streamer.adapters.kafka_python.consumer import Consumer
from streamer.adapters.kafka_python.membership import Membership
from streamer.adapters.kafka_python.options import consumer_options, transaction_options
from streamer.adapters.kafka_python.output import Output
from streamer.adapters.kafka_python.positions import NOT_NOW, REBALANCING, Explain, Lag, Positions
from streamer.adapters.kafka_python.producer import TransactionalProducer
from streamer.adapters.kafka_python.transactions import Owner, Transactions
from streamer.core.events import Partition, Records
from streamer.delivery import Messages, NotAMemberError, OutcomeUnknownError, Position, Rebalance
from streamer.kafka.letters import LetterLimit
from streamer.kafka.watch import InputWatch
from streamer.kafka.wording import name_taken, names
from streamer.logs import log
from streamer.settings import InputSettings, KafkaSettings, OutputSettings

CLOSE_TIMEOUT_SECONDS = 5.0
PARTITIONS_INTERVAL_SECONDS = 5.0
RETRY_SECONDS = 0.1
JOIN_SECONDS = 3.5  # a heartbeat interval, in which the other members hear of the rebalance, and a little more
RECONNECT_SECONDS = 5.0  # for a new producer's first connection; with the rest of `recover`, far below a poll interval


class KafkaPythonClient:
    """`streamer.delivery.KafkaClient`.

    Everything belongs to one thread, but for questions that it asks on another: the library answers them on its I/O
    thread, whoever asks. `on_revoke` runs on another one while `poll` or `hold` waits for it; of this
    client it may call only `transact`.
    """

    def __init__(self, kafka: KafkaSettings, input_: InputSettings, output: OutputSettings) -> None:
        self._kafka = kafka
        self._input = input_
        self._output = output
        self._transactional_id = f"{kafka.group_id}-{kafka.group_instance_id or uuid.uuid4().hex}"
        self._explain = Explain(kafka)
        self._consumer: Any = None
        self._transactions: Transactions | None = None
        self._membership: Membership
        self._positions: Positions
        self._lag: Lag
        self._cluster = KafkaPythonCluster(kafka, input_, output)
        self._watch: InputWatch
        self._batch_bytes = 0
        self._look_again = 0.0

    def start(self, on_revoke: Callable[[], None]) -> None:
        """Check the topics, create missing changelogs, shut out a predecessor, and join the group.

        Raises ConfigError for brokers that do not answer within `kafka.connect_timeout_seconds`, a topic that does
        not exist or has too few partitions, or an option that kafka-python does not take.
        """
        ground = self._cluster.prepare()
        self._watch = InputWatch(ground.partitions, self._output.topic)
        self._batch_bytes = ground.batch_bytes
        limit = LetterLimit(ground.letter_bytes, self._cluster.largest_letter)
        owner = Owner(self._transactional_id, self._explain.readable)
        self._transactions = Transactions(self._open_producer, Output(self._output.dead_letter_topic, limit), owner)
        with refusals(self._kafka):
            self._transactions.begin(self._kafka.connect_timeout_seconds)
        assignor = ClaimingAssignor()
        options = consumer_options(self._kafka) | {"partition_assignment_strategy": [assignor]}
        self._consumer = open_client(Consumer, self._kafka, options)
        assignor.membership = self._consumer.group_metadata
        self._membership = Membership(self._consumer, on_revoke)
        self._positions = Positions(self._consumer, self._input, self._explain)
        self._lag = Lag(self._consumer)
        self._consumer.subscribe(list(self._input.topics), listener=self._membership)
        with refusals(self._kafka):
            self._await_metadata()

    def poll(self, timeout_seconds: float, max_records: int) -> list[Records]:
        """Records of running partitions, at most one `Records` for each; empty when none came in time.

        While the group rebalances it may take `JOIN_SECONDS` instead of the timeout.
        Raises FencedError, DeliveryError when the group refuses this member, and StateError for an input that has
        changed under us.
        """
        batches = self._fetch(timeout_seconds, max_records)
        self._membership.check()
        self._check_partitions()
        found = [(Partition(*tp), batch) for tp, batch in batches.items() if Partition(*tp) in self._membership.running]
        records = [columns(partition, batch) for partition, batch in found]
        self._watch.check_order(records)
        return records

    def hold(self, timeout_seconds: float) -> None:
        """Poll without taking records."""
        running = [TopicPartition(*partition) for partition in self._membership.running]
        self._consumer.pause(*running)
        try:
            self._fetch(timeout_seconds, max_records=1)
            self._membership.check()
        finally:
            self._consumer.resume(*(TopicPartition(*partition) for partition in self._membership.running))

    def rebalance(self) -> Rebalance | None:
        """What changed in the assignment since the last call; a partition in both sets went and came back."""
        return self._membership.rebalance()

    def is_member(self) -> bool:
        """Whether the group has taken this member in; it may have given it nothing."""
        return self._membership.is_stable

    def resume(self, partition: Partition, offset: int) -> None:
        """Deliver this partition's records from the offset on; nothing happens if it is no longer ours."""
        if partition in self._membership.owned:
            self._consumer.seek(TopicPartition(*partition), offset)
            self._watch.begin(partition, offset)
            self._membership.running.add(partition)
            self._consumer.resume(TopicPartition(*partition))

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Position | None]:
        """The group's committed positions, once no pending transaction can change them."""
        return self._positions.committed(partitions)

    def starting_offset(self, partition: Partition) -> int:
        """Where a partition without a committed position begins, as `input.start` says."""
        return self._positions.starting_offset(partition)

    def beginning(self, partition: Partition) -> int:
        """The first offset of an input partition that is still there."""
        return self._positions.beginning(partition)

    def commit_positions(self, positions: Mapping[Partition, Position]) -> None:
        """Commit positions outside a transaction."""
        self._check_owned(positions)
        if not self._membership.is_stable:
            raise NotAMemberError("the group rebalances: poll, to join it again")
        self._positions.commit(positions)

    def transact(self, output: Sequence[Messages], positions: Mapping[Partition, Position]) -> None:
        """One attempt at a transaction, within about 12 s; once more if dead letters were refused for their size.

        After one that was aborted, a new producer comes first: some milliseconds, at most 11 s.

        1. begin   2. send every message to the partition it names, and see each confirmed
        3. send the positions with the group's present generation, never one below 0   4. commit
        """
        if self._transactions is None:
            raise OutcomeUnknownError("transact before start")
        self._check_owned(positions)
        may_look = not self._membership.revoking
        self._transactions.transact(output, positions, self._membership.group, may_look)

    def recover(self) -> None:
        """After OutcomeUnknownError: a new producer with the same transactional id, which ends what was pending."""
        if self._transactions is None:
            raise OutcomeUnknownError("recover before start")
        if self._kafka.group_instance_id and self._cluster.is_ours(self._membership.member_ids) is False:
            raise name_taken(self._kafka)  # else we would shut out our successor
        self._transactions.recover()

    def lag(self) -> Mapping[Partition, int]:
        """Records between each running partition's position and its end, as last seen: at most some seconds ago."""
        return self._lag.measure(self._membership.running)

    def close(self) -> None:
        """Leave the group (a member with `kafka.group_instance_id` keeps its place) and close every connection."""
        if self._transactions is not None:
            self._transactions.abandon()
        if self._consumer is None:
            return
        self._membership.closing = True
        try:
            self._consumer.close(autocommit=False, timeout_ms=round(CLOSE_TIMEOUT_SECONDS * 1000))
        except KafkaError as error:
            log("close_failed", logging.WARNING, error=type(error).__name__)

    def _open_producer(self) -> TransactionalProducer:
        patience = RECONNECT_SECONDS if self._consumer is not None else None
        options = transaction_options(self._kafka, self._output, self._transactional_id, self._batch_bytes, patience)
        producer: TransactionalProducer = open_client(TransactionalProducer, self._kafka, options)
        return producer

    def _fetch(self, timeout_seconds: float, max_records: int) -> Mapping[Any, Sequence[Any]]:
        """Poll in slices until records come, the time is over or, during a rebalance, we have joined.

        A join that completes while nobody polls is thrown away by the library and asked for anew, which makes every
        member join again: with short polls and work in between it might never end. So we stay for it; nothing can
        be read or committed meanwhile anyway.
        """
        patience = time.monotonic() + JOIN_SECONDS
        while True:
            try:
                batches = self._consumer.poll(timeout_ms=round(timeout_seconds * 1000), max_records=max_records)
            except FencedInstanceIdError as error:
                raise name_taken(self._kafka) from error
            except (*NOT_NOW, *REBALANCING):
                time.sleep(min(timeout_seconds, RETRY_SECONDS))  # it raised at once, so our caller would spin
                return {}
            except KafkaError as error:
                raise self._explain.refused("reading", error) from error
            if batches or self._membership.is_stable or time.monotonic() >= patience:
                return dict(batches)
            timeout_seconds = RETRY_SECONDS

    def _await_metadata(self) -> None:
        """Wait until the topics' partitions are known: a join that overtakes this knowledge never completes."""
        deadline = time.monotonic() + self._kafka.connect_timeout_seconds
        while not all(self._consumer.partitions_for_topic(topic) for topic in self._input.topics):
            if time.monotonic() >= deadline:
                raise KafkaTimeoutError("no metadata")
            time.sleep(RETRY_SECONDS)

    def _check_partitions(self) -> None:
        """StateError once a topic has got more partitions, looked at now and then."""
        if time.monotonic() < self._look_again:
            return
        self._look_again = time.monotonic() + PARTITIONS_INTERVAL_SECONDS
        try:
            counts = {topic: len(self._consumer.partitions_for_topic(topic)) for topic in self._input.topics}
        except KafkaError:
            return  # brokers are away; their topics did not change
        for topic, count in counts.items():
            self._watch.check_partitions(topic, count)

    def _check_owned(self, positions: Mapping[Partition, Position]) -> None:
        if gone := positions.keys() - self._membership.owned:
            raise NotAMemberError(f"not ours any more: {names(gone)}")
