"""The daemon's Kafka client on kafka-python: a member of the consumer group, with a producer of its own."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    KafkaError,
    KafkaTimeoutError,
    RebalanceInProgressError,
    RetriableError,
    UnknownBrokerIdError,
    UnknownMemberIdError,
)
from kafka.structs import MemberState

from streamer.adapters.kafka_python.connecting import open_client, refusals
from streamer.adapters.kafka_python.membership import Membership
from streamer.adapters.kafka_python.options import (
    DELIVERY_TIMEOUT_SECONDS,
    consumer_options,
    producer_options,
    quiet_library,
    without_secrets,
)
from streamer.adapters.kafka_python.output import Output
from streamer.adapters.kafka_python.positions import Lag, beginnings
from streamer.adapters.kafka_python.topics import check_topics
from streamer.core.events import Headers, Partition, Records
from streamer.delivery import DeliveryError, Messages, Rebalance
from streamer.errors import StateError
from streamer.logs import log
from streamer.settings import InputSettings, KafkaSettings, OutputSettings

REVOKE_TIMEOUT_SECONDS = 10.0  # heartbeats wait for a revocation, so it ends well before the session does
OFFSETS_TIMEOUT_SECONDS = 10.0
CLOSE_TIMEOUT_SECONDS = 5.0
PARTITIONS_INTERVAL_SECONDS = 5.0
RETRY_SECONDS = 0.1
JOIN_SECONDS = 3.5  # a heartbeat interval, in which the other members hear of the rebalance, and a little more

NOT_NOW = (RetriableError, UnknownBrokerIdError)  # brokers come and go; poll again
REBALANCING = (CommitFailedError, RebalanceInProgressError, IllegalGenerationError, UnknownMemberIdError)


class KafkaPythonClient:
    """`streamer.delivery.KafkaClient`: at least once.

    `poll`, `commit`, `lag` and `close` belong to one thread. `on_revoke` runs on another one while `poll` waits
    for it; of this client it may call only `commit`.
    """

    def __init__(self, kafka: KafkaSettings, input_: InputSettings, output: OutputSettings) -> None:
        self._kafka = kafka
        self._input = input_
        self._output_settings = output
        self._consumer: Any = None
        self._output: Output | None = None
        self._membership: Membership
        self._lag: Lag
        self._partitions: Mapping[str, int] = {}
        self._look_again = 0.0

    def start(self, on_revoke: Callable[[], None]) -> None:
        """Check the topics and join the group; the first partitions come with a later `poll`.

        Raises ConfigError for brokers that do not answer within `kafka.connect_timeout_seconds`, a topic that does
        not exist or has too few partitions, or an option that kafka-python does not take.
        """
        quiet_library()
        self._partitions = check_topics(self._kafka, self._input, self._output_settings)
        producer = open_client(KafkaProducer, self._kafka, producer_options(self._kafka, self._output_settings))
        self._output = Output(producer, self._output_settings.dead_letter_topic)
        self._consumer = open_client(KafkaConsumer, self._kafka, consumer_options(self._kafka))
        self._membership = Membership(self._consumer, on_revoke)
        self._lag = Lag(self._consumer)
        self._consumer.subscribe(list(self._input.topics), listener=self._membership)
        with refusals(self._kafka):
            self._await_metadata()

    def poll(self, timeout_seconds: float, max_records: int) -> list[Records]:
        """Records of our partitions, at most one `Records` for each; empty when none came in time.

        While the group rebalances it may take `JOIN_SECONDS` instead of the timeout.
        Raises DeliveryError when the group has shut this member out for good.
        """
        batches = self._fetch(timeout_seconds, max_records)
        self._membership.raise_failure()
        self._check_partitions()
        self._begin_fresh()
        return [_columns(tp, batch) for tp, batch in batches.items() if Partition(*tp) in self._membership.owned]

    def rebalance(self) -> Rebalance | None:
        """What changed in the assignment since the last call; a partition in both sets went and came back."""
        return self._membership.rebalance()

    def commit(self, output: Sequence[Messages], offsets: Mapping[Partition, int]) -> None:
        """Make output durable, then the input offsets.

        1. send every message to the partition it names   2. wait until the brokers have stored each of them;
        a dead letter refused for its size goes again, cut   3. only then commit the offsets

        Offsets that cannot be committed now, because the group rebalances or its coordinator is away, are
        committed with the next ones, as long as their partition is ours. Raises DeliveryError when 2 fails
        within its limit: nothing is committed, and whoever reads next begins with the same events.
        """
        if self._output is None:
            raise DeliveryError("commit before start")
        revoking = self._membership.revoking
        self._output.publish(output, REVOKE_TIMEOUT_SECONDS if revoking else DELIVERY_TIMEOUT_SECONDS)  # 1 and 2
        self._membership.is_due(offsets)
        if not revoking:  # else the membership commits them: here, on the library's thread, a commit cannot wait
            self._commit_offsets()  # 3

    def lag(self) -> Mapping[Partition, int]:
        """Records between each partition's position and its end, as last seen: at most some seconds ago."""
        return self._lag.measure(self._membership.owned)

    def close(self) -> None:
        """Leave the group (a member with `kafka.group_instance_id` keeps its place) and close every connection."""
        if self._output is not None:
            self._output.close(CLOSE_TIMEOUT_SECONDS)
        if self._consumer is None:
            return
        self._membership.closing = True
        try:
            self._consumer.close(autocommit=False, timeout_ms=round(CLOSE_TIMEOUT_SECONDS * 1000))
        except KafkaError as error:
            log("close_failed", logging.WARNING, error=type(error).__name__)

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
                raise self._replaced() from error
            except (*NOT_NOW, *REBALANCING):
                time.sleep(min(timeout_seconds, RETRY_SECONDS))  # it raised at once, so our caller would spin
                return {}
            except KafkaError as error:
                raise self._refused("reading", error) from error
            if batches or self._has_joined() or time.monotonic() >= patience:
                return dict(batches)
            timeout_seconds = RETRY_SECONDS

    def _has_joined(self) -> bool:
        return bool(self._consumer.group_metadata().state == MemberState.STABLE)

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
            if count > (before := self._partitions[topic]):
                raise StateError(
                    f"input.topics: topic {topic!r} had {before} partitions at the start and has {count} now, so its "
                    f"streams may go elsewhere; give {self._output_settings.topic!r} as many, and start again"
                )

    def _commit_offsets(self) -> None:
        request = self._membership.request()
        if not request:
            return
        try:
            self._consumer.commit(request, timeout_ms=round(OFFSETS_TIMEOUT_SECONDS * 1000))
            self._membership.due.clear()
        except FencedInstanceIdError as error:
            raise self._replaced() from error
        except (*NOT_NOW, *REBALANCING) as error:
            log("offsets_postponed", logging.WARNING, error=type(error).__name__)
        except KafkaError as error:
            raise self._refused("committing offsets", error) from error

    def _begin_fresh(self) -> None:
        """Resume new partitions: at their commit, else where `input.start` says, which is committed at once.

        Committed, since `latest` would otherwise be a later place after a restart, with events between lost.
        """
        fresh = [TopicPartition(*partition) for partition in self._membership.fresh]
        if not fresh:
            return
        try:
            committed, starts = beginnings(self._consumer, fresh, self._input)
        except NOT_NOW as error:
            log("start_unknown", logging.WARNING, error=type(error).__name__)
            return
        except KafkaError as error:
            raise self._refused("reading committed offsets", error) from error
        for partition, offset in (committed | starts).items():
            self._consumer.seek(TopicPartition(*partition), offset)
        self._membership.begin(committed | starts)
        self._membership.is_due(starts)
        self._commit_offsets()
        self._consumer.resume(*fresh)

    def _replaced(self) -> DeliveryError:
        name = self._kafka.group_instance_id
        return DeliveryError(
            f"kafka.group_instance_id: another process of group {self._kafka.group_id!r} has taken the name {name!r}; "
            "give each process its own"
        )

    def _refused(self, what: str, error: KafkaError) -> DeliveryError:
        reason = without_secrets(error, self._kafka)
        return DeliveryError(
            f"{what} was refused: {reason}; check the group {self._kafka.group_id!r}, its other members' assignors, "
            "and the permissions of this user on group and topics"
        )


def _columns(tp: Any, batch: Sequence[Any]) -> Records:
    def headers(index: int) -> Headers:
        return [(name, value or b"") for name, value in batch[index].headers]

    return Records(
        partition=Partition(*tp),
        offsets=[record.offset for record in batch],
        timestamps=[record.timestamp for record in batch],
        keys=[record.key for record in batch],
        values=[record.value for record in batch],
        headers=headers,
    )
