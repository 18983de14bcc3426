"""Where a partition begins, and how far it is from its end."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import IllegalStateError, KafkaError

from streamer.core.events import Partition
from streamer.logs import log
from streamer.settings import InputSettings

START_TIMEOUT_MS = 5_000
LAG_INTERVAL_SECONDS = 5.0
LAG_TIMEOUT_MS = 250  # a slow broker costs the loop at most a twentieth of its time


def beginnings(
    consumer: KafkaConsumer, partitions: Collection[TopicPartition], input_: InputSettings
) -> tuple[dict[Partition, int], dict[Partition, int]]:
    """Where partitions begin: those with a committed offset there, the others as `input.start` says.

    Raises a retriable KafkaError when the brokers do not answer in time.
    """
    asked = {p: consumer.committed(p, timeout_ms=START_TIMEOUT_MS) for p in partitions}
    committed = {Partition(*p): offset for p, offset in asked.items() if offset is not None}
    without = [p for p, offset in asked.items() if offset is None]
    return committed, _starts(consumer, without, input_) if without else {}


def _starts(
    consumer: KafkaConsumer, partitions: Sequence[TopicPartition], input_: InputSettings
) -> dict[Partition, int]:
    if input_.start_ms is not None:
        found = consumer.offsets_for_times(dict.fromkeys(partitions, input_.start_ms), timeout_ms=START_TIMEOUT_MS)
        ends = consumer.end_offsets(partitions, timeout_ms=START_TIMEOUT_MS)
        offsets = {p: ends[p] if found[p] is None else found[p].offset for p in partitions}
    elif input_.start == "latest":
        offsets = consumer.end_offsets(partitions, timeout_ms=START_TIMEOUT_MS)
    else:
        offsets = consumer.beginning_offsets(partitions, timeout_ms=START_TIMEOUT_MS)
    return {Partition(*p): offset for p, offset in offsets.items()}


class Lag:
    """Records between each partition's position and its end, asked for now and then and with little patience.

    The end is the last stable offset: what a `read_committed` consumer can read up to.
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
