"""The group's committed positions, where a partition without one begins, and how far each is from its end."""

import logging
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import (
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    RebalanceInProgressError,
    RetriableError,
    UnknownBrokerIdError,
    UnknownMemberIdError,
)

from streamer.adapters.kafka_python.metadata import offsets_of, position_of
from streamer.core.events import Partition
from streamer.delivery import DeliveryError, FencedError, NotAMemberError, NotNowError, Position
from streamer.kafka.wording import name_taken, refused, without_secrets
from streamer.logs import log
from streamer.settings import InputSettings, KafkaSettings

ANSWER_SECONDS = 1.0  # the loop polls in between, and asks again
COMMIT_SECONDS = 5.0
LAG_INTERVAL_SECONDS = 5.0
LOOK_MS = 250  # for where a log begins: asked between polls, and only for a metric
LAG_TIMEOUT_MS = 250  # a slow broker costs the loop at most a twentieth of its time

NOT_NOW = (RetriableError, UnknownBrokerIdError)  # brokers come and go
REBALANCING = (CommitFailedError, RebalanceInProgressError, IllegalGenerationError, UnknownMemberIdError)


class Positions:
    """What the group's coordinator knows, asked for with a limit.

    explain  makes errors that no repetition mends into what the daemon raises
    """

    def __init__(self, consumer: KafkaConsumer, input_: InputSettings, explain: "Explain") -> None:
        self._consumer = consumer
        self._input = input_
        self._explain = explain
        self._unanswered: set[Partition] = set()

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Position | None]:
        """The stable committed positions: the library asks for these where it reads `read_committed`."""
        deadline = time.monotonic() + ANSWER_SECONDS
        with self._not_now("reading committed positions"):
            return {partition: self._committed(partition, deadline) for partition in partitions}

    def starting_offset(self, partition: Partition) -> int:
        """Where a partition without a committed position begins."""
        consumer, asked = self._consumer, TopicPartition(*partition)
        limit = round(ANSWER_SECONDS * 1000)
        with self._not_now("looking for the starting position"):
            if self._input.start_ms is not None:
                found = consumer.offsets_for_times({asked: self._input.start_ms}, timeout_ms=limit)[asked]
                if found is not None:
                    return int(found.offset)
            if self._input.start == "earliest":
                return int(consumer.beginning_offsets([asked], timeout_ms=limit)[asked])
            return int(consumer.end_offsets([asked], timeout_ms=limit)[asked])

    def beginning(self, partition: Partition) -> int:
        """The first offset that is still there."""
        asked = TopicPartition(*partition)
        with self._not_now("looking for the beginning"):
            return int(self._consumer.beginning_offsets([asked], timeout_ms=LOOK_MS)[asked])

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        """Commit outside a transaction."""
        with self._not_now("committing positions"):
            try:
                self._consumer.commit(offsets_of(positions), timeout_ms=round(COMMIT_SECONDS * 1000))
            except REBALANCING as error:
                raise NotAMemberError(f"committing positions: {type(error).__name__}") from None

    def _committed(self, partition: Partition, deadline: float) -> Position | None:
        # A question that was given up stays with the library, and its answer, however old by now, would be the next
        # one's: then we ask twice.
        stale = partition in self._unanswered
        self._unanswered.add(partition)
        for _ in range(2 if stale else 1):
            limit = max(0.0, deadline - time.monotonic())
            found = self._consumer.committed(TopicPartition(*partition), metadata=True, timeout_ms=limit * 1000)
        self._unanswered.discard(partition)
        return position_of(found)

    @contextmanager
    def _not_now(self, what: str) -> Iterator[None]:
        try:
            yield
        except FencedInstanceIdError as error:
            raise self._explain.fenced() from error
        except (*REBALANCING, *NOT_NOW) as error:  # who only asks need not be a member: the group will settle
            raise NotNowError(f"{what}: {type(error).__name__}: {self._explain.readable(error)}") from None
        except KafkaError as error:
            raise self._explain.refused(what, error) from error


class Explain:
    """Errors of the library as the daemon tells them."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    def readable(self, error: object) -> str:
        """An error's text without secrets."""
        return without_secrets(error, self._kafka)

    def fenced(self) -> FencedError:
        """Another process has our name in the group."""
        return name_taken(self._kafka)

    def refused(self, what: str, error: KafkaError) -> DeliveryError:
        """The brokers say no, and will again."""
        return refused(self._kafka, what, f"{type(error).__name__}: {self.readable(error)}")


class Lag:
    """Records between each partition's position and its end, asked for now and then and with little patience.

    The end is the last stable offset: what a `read_committed` consumer can read up to. (The library's own lag metric
    counts to the high watermark, so it would never be 0 while a transaction is open.)
    """

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self._lag: dict[Partition, int] = {}
        self._ask_again = 0.0
        self._answered = True

    def measure(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """The lag of these partitions, at most `LAG_INTERVAL_SECONDS` old; older while brokers do not answer."""
        if partitions and time.monotonic() >= self._ask_again:
            self._refresh(partitions)
            self._ask_again = time.monotonic() + LAG_INTERVAL_SECONDS
        return {partition: lag for partition, lag in self._lag.items() if partition in partitions}

    def _refresh(self, partitions: Collection[Partition]) -> None:
        try:
            ends = self._consumer.end_offsets([TopicPartition(*p) for p in partitions], timeout_ms=LAG_TIMEOUT_MS)
            positions = {p: self._consumer.position(p, timeout_ms=0) for p in ends}
        except (KafkaError, IllegalStateError) as error:
            if self._answered:
                log("lag_unknown", logging.WARNING, error=type(error).__name__)
            self._answered = False
            return
        if not self._answered:
            log("lag_known_again")
        self._answered = True
        known = {Partition(*p): max(0, ends[p] - position) for p, position in positions.items() if position is not None}
        self._lag.update(known)
