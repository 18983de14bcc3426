"""The daemon's Kafka client on librdkafka: a member of the consumer group, with a transactional producer."""

import logging
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from streamer.adapters.librdkafka.columns import by_partition, columns
from streamer.adapters.librdkafka.ending import close
from streamer.adapters.librdkafka.failures import REFUSALS, error_of, told
from streamer.adapters.librdkafka.membership import Membership
from streamer.adapters.librdkafka.opening import open_client
from streamer.adapters.librdkafka.options import BATCH_BYTES, consumer_options, producer_options
from streamer.adapters.librdkafka.output import Output
from streamer.adapters.librdkafka.positions import Positions
from streamer.adapters.librdkafka.transactions import Transactions
from streamer.core.events import Partition, Records
from streamer.delivery import (
    AbortedError,
    Messages,
    NotAMemberError,
    NotNowError,
    OutcomeUnknownError,
    Position,
    Rebalance,
)
from streamer.errors import ConfigError
from streamer.kafka.cluster import Cluster
from streamer.kafka.letters import LetterLimit
from streamer.kafka.watch import InputWatch
from streamer.kafka.wording import name_taken, names, refused, without_secrets
from streamer.logs import log
from streamer.settings import InputSettings, KafkaSettings, OutputSettings

PARTITIONS_INTERVAL_SECONDS = 30.0  # the group itself tells a new partition to whoever gets it
PARTITIONS_SECONDS = 0.25
ASK_AGAIN_SECONDS = 0.5  # who holds our name, while brokers do not answer
FENCED = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()  # a consumer's fatal error has a code of its own


class LibrdkafkaClient:
    """`streamer.delivery.KafkaClient`.

    Everything, `on_revoke` too, runs on the thread that calls, one at a time, but for questions that it asks on
    another; the library's own threads fetch and send.

    cluster  the brokers' side of the start
    """

    def __init__(self, kafka: KafkaSettings, input_: InputSettings, output: OutputSettings, cluster: Cluster) -> None:
        self._kafka = kafka
        self._input = input_
        self._output = output
        self._cluster = cluster
        self._transactional_id = f"{kafka.group_id}-{kafka.group_instance_id or uuid.uuid4().hex}"
        self._consumer: Consumer | None = None
        self._transactions: Transactions | None = None
        self._membership: Membership
        self._positions: Positions
        self._watch: InputWatch
        self._batch_bytes = 0
        self._at_end: set[Partition] = set()
        self._read_to: dict[Partition, int] = {}
        self._look_again = 0.0
        self._fatal: Any = None
        self._fenced = False  # the library has given our consumer up, and our name may be ours still
        self._last_error: Any = None

    def start(self, on_revoke: Callable[[], None]) -> None:
        """Check the topics, create missing changelogs, shut out a predecessor, and join the group.

        Raises ConfigError for brokers that do not answer within `kafka.connect_timeout_seconds`, a topic that does
        not exist or has too few partitions, or an option that librdkafka does not take.
        """
        self._consumer = self._open_consumer()
        self._membership = Membership(self._consumer, on_revoke, self._is_taken)
        self._positions = Positions(self._consumer, self._kafka, self._input)
        ground = self._cluster.prepare()
        self._watch = InputWatch(ground.partitions, self._output.topic)
        self._batch_bytes = min(BATCH_BYTES, ground.batch_bytes)
        dead = self._output.dead_letter_topic
        limit = LetterLimit(ground.letter_bytes, self._cluster.largest_letter)
        output = Output(dead, ground.partitions.get(dead, 1), limit, self._batch_bytes)
        self._transactions = Transactions(self._open_producer, output, self._kafka, self._transactional_id)
        try:
            self._transactions.begin(self._kafka.connect_timeout_seconds)
        except KafkaException as problem:
            raise self._not_usable(error_of(problem)) from None
        self._membership.subscribe(list(self._input.topics))

    def poll(self, timeout_seconds: float, max_records: int) -> list[Records]:
        """Records of running partitions, at most one `Records` for each; empty when none came in time.

        Raises FencedError, DeliveryError when the group refuses this member, and StateError for an input that has
        changed under us.
        """
        if not self._is_usable(timeout_seconds):
            return []
        found = self._fetch(timeout_seconds, max_records)
        self._membership.check()
        self._check_partitions()
        running = self._membership.running
        records = [columns(p, batch) for p, batch in by_partition(found).items() if p in running]
        self._watch.check_order(records)
        for each in records:
            read_to = self._read_to[each.partition]  # the end, if that came with them: markers may lie before it
            self._read_to[each.partition] = max(read_to, each.offsets[-1] + 1)
        return records

    def hold(self, timeout_seconds: float) -> None:
        """Poll without taking records."""
        if not self._is_usable(timeout_seconds):
            return
        consumer = self._used()
        running = self._membership.topic_partitions()
        consumer.pause(running)
        try:
            self._fetch(timeout_seconds, max_records=1)
            self._membership.check()
        finally:
            consumer.resume(self._membership.topic_partitions())

    def rebalance(self) -> Rebalance | None:
        """What changed in the assignment since the last call; a partition in both sets went and came back."""
        return self._membership.rebalance()

    def is_member(self) -> bool:
        """Whether the group has taken this member in; it may have given it nothing."""
        return self._membership.is_member

    def resume(self, partition: Partition, offset: int) -> None:
        """Deliver this partition's records from the offset on; nothing happens if it is no longer ours."""
        if partition in self._membership.owned:
            self._at_end.discard(partition)
            self._read_to[partition] = offset
            self._watch.begin(partition, offset)
            self._membership.run(partition, offset)

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
        """Commit positions outside the daemon's transactions: in one of their own, as it has a limit of time.

        Whoever asks again commits the same positions again, so an unknown outcome needs no settling, only a new
        producer: the daemon, which knows of no transaction, would never ask for it.
        """
        try:
            self.transact((), positions)
        except OutcomeUnknownError as problem:
            self.recover()
            raise NotNowError(f"committing positions: {problem}") from None
        except AbortedError as problem:
            raise NotNowError(f"committing positions: {problem}") from None

    def transact(self, output: Sequence[Messages], positions: Mapping[Partition, Position]) -> None:
        """One attempt at a transaction, within about 12 s; once more if dead letters were refused for their size.

        1. begin   2. hand every message over, for the partition it names   3. send the positions with the group's
        present generation, never one below 0   4. see every message stored   5. commit
        """
        if self._transactions is None:
            raise OutcomeUnknownError("transact before start")
        if gone := positions.keys() - self._membership.owned:
            raise NotAMemberError(f"not ours any more: {names(gone)}")
        self._transactions.transact(output, positions, self._membership.group, not self._membership.revoking)

    def recover(self) -> None:
        """After OutcomeUnknownError: a new producer with the same transactional id, which ends what was pending."""
        if self._transactions is None:
            raise OutcomeUnknownError("recover before start")
        if self._is_taken(self._membership.member_ids):
            raise name_taken(self._kafka)  # else we would shut out our successor
        self._transactions.recover()

    def lag(self) -> Mapping[Partition, int]:
        """Records between each running partition's position and its end, as the last fetch told it."""
        return {partition: self._lag(partition) for partition in self._membership.running}

    def close(self) -> None:
        """Leave the group (a member with `kafka.group_instance_id` keeps its place) and close every connection."""
        if self._transactions is not None:
            self._transactions.abandon()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._membership.closing = True
            close(consumer)
            self._positions.close()

    def _open_consumer(self) -> Consumer:
        consumer: Consumer = open_client(Consumer, self._kafka, consumer_options(self._kafka, self._on_error))
        return consumer

    def _is_usable(self, timeout_seconds: float) -> bool:
        """Whether there is a consumer to poll; waits a little where it is not known yet if there may be one."""
        if not self._fenced or self._join_again():
            return True
        time.sleep(min(timeout_seconds, ASK_AGAIN_SECONDS))
        return False

    def _join_again(self) -> bool:
        """A new consumer, once it is known that nobody else has our name; raises FencedError where somebody has.

        Tried: while a coordinator is away for longer than a session, the library forgets its member id, goes on sending
        heartbeats, takes the refusal of these for a successor of our name, and is of no use from then on.
        """
        ours = self._cluster.is_ours(self._membership.member_ids)
        if ours is None:
            return False
        if not ours:
            raise name_taken(self._kafka)
        log("joining_again", logging.WARNING, reason="librdkafka took itself for a successor of its own name")
        former, self._consumer = self._used(), self._open_consumer()
        self._membership.join_again(self._consumer, list(self._input.topics))
        self._positions.use(self._consumer)
        self._fenced = False
        close(former)
        return True

    def _open_producer(self) -> Producer:
        callbacks = {"error_cb": self._on_error, "on_delivery": self._on_failed_message}
        options = producer_options(self._kafka, self._output, self._transactional_id, self._batch_bytes, callbacks)
        producer: Producer = open_client(Producer, self._kafka, options)
        return producer

    def _on_failed_message(self, error: Any, message: object) -> None:
        if self._transactions is not None:
            self._transactions.message_failed(error, message)

    def _is_taken(self, member_ids: Collection[str]) -> bool:
        """Whether another process has our name in the group, as far as the brokers answer."""
        return bool(self._kafka.group_instance_id) and self._cluster.is_ours(member_ids) is False

    def _used(self) -> Consumer:
        if self._consumer is None:
            raise NotNowError("used before start")
        return self._consumer

    def _fetch(self, timeout_seconds: float, max_records: int) -> list[Any]:
        """Messages that are there, else the first that comes in time; ends of partitions are noted."""
        consumer = self._used()
        messages = consumer.consume(max_records, 0)  # with a time limit, it would wait for all of them
        if not messages and timeout_seconds > 0:
            messages = consumer.consume(1, timeout_seconds)
            if messages and max_records > 1:
                messages += consumer.consume(max_records - 1, 0)
        if self._fatal is not None:
            self._refuse(self._fatal)
        if self._membership.name_taken:
            raise name_taken(self._kafka)
        failed = [message for message in messages if message.error() is not None]
        if failed:
            for message in failed:
                self._note(message)
            messages = [message for message in messages if message.error() is None]
        return list(messages)

    def _note(self, message: Any) -> None:
        error = message.error()
        if error.code() == KafkaError._PARTITION_EOF:
            self._at_end.add(partition := Partition(message.topic(), message.partition()))
            self._read_to[partition] = message.offset()
        elif error.code() == KafkaError._FATAL and FENCED in error.str():
            self._fenced = True
        elif error.fatal() or error.code() in REFUSALS:
            self._refuse(error)

    def _refuse(self, error: Any) -> None:
        if error.code() in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED):
            raise name_taken(self._kafka)
        raise refused(self._kafka, "reading", self._told(error))

    def _lag(self, partition: Partition) -> int:
        _, end = self._used().get_watermark_offsets(TopicPartition(*partition), cached=True)
        at = self._read_to[partition]
        if partition in self._at_end and end <= at:
            return 0
        return max(0, end - at)

    def _on_error(self, error: Any) -> None:
        """Called by the library, in `consume` or while a transaction is sent, with what has no other place."""
        self._last_error = error
        if error.fatal():
            self._fatal = error

    def _not_usable(self, error: Any) -> ConfigError:
        behind = f" ({self._told(self._last_error)})" if self._last_error is not None else ""
        return ConfigError(
            f"kafka.bootstrap_servers: {self._kafka.bootstrap_servers!r} answered {self._told(error)}{behind}; "
            "check kafka.options (TLS, SASL) and the permissions of its user"
        )

    def _told(self, error: Any) -> str:
        return without_secrets(told(error), self._kafka)

    def _check_partitions(self) -> None:
        """StateError once a topic has got more partitions, looked at now and then."""
        if time.monotonic() < self._look_again:
            return
        self._look_again = time.monotonic() + PARTITIONS_INTERVAL_SECONDS
        for topic in self._input.topics:
            try:
                found = self._used().list_topics(topic, PARTITIONS_SECONDS).topics[topic]
            except KafkaException:
                return  # brokers are away; their topics did not change
            self._watch.check_partitions(topic, len(found.partitions))
