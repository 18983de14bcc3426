"""Reads partitions outside the group: changelogs, and input to be replayed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streamer.adapters.librdkafka.columns import columns
from streamer.adapters.librdkafka.ending import close
from streamer.adapters.librdkafka.failures import NOT_ALLOWED, error_of, told
from streamer.adapters.librdkafka.opening import open_client
from streamer.adapters.librdkafka.options import reader_options
from streamer.core.events import Partition, Records
from streamer.delivery import DeliveryError, NotNowError
from streamer.kafka.wording import without_secrets
from streamer.settings import KafkaSettings

ANSWER_SECONDS = 2.0
MAX_RECORDS = 4_000  # some tens of milliseconds of work, so that the loop can poll in between
LASTING = NOT_ALLOWED | {KafkaError._AUTHENTICATION}


class LibrdkafkaLogReader:
    """`streamer.delivery.LogReader`. Opens its connections when it is first used; raises NotNowError until then."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._records: Consumer | None = None
        self._offsets: Consumer | None = None
        self._current: Partition | None = None
        self._position = 0

    def end(self, partition: Partition) -> int:
        """The offset after the last record, those of open transactions too."""
        return self._ends("the end of", partition)[1]

    def begin(self, partition: Partition) -> int:
        """The first offset that is still there."""
        return self._ends("the beginning of", partition)[0]

    def seek(self, partition: Partition, offset: int) -> None:
        """Read this partition next, from the offset on."""
        if self._records is None:
            self._records = self._open("read_committed")
        self._records.assign([TopicPartition(*partition, offset)])
        self._current, self._position = partition, offset

    def rest(self) -> None:
        """Read nothing until the next `seek`."""
        if self._records is not None:
            self._records.unassign()
        self._current = None

    def read(self, timeout_seconds: float) -> tuple[Records | None, int]:
        """Records that came in time, if any, and the position: beyond them, and beyond aborted ones and markers."""
        if self._current is None or self._records is None:
            raise NotNowError("read before seek")
        with self._answers("the records of", self._current):
            found = self._records.consume(MAX_RECORDS, 0) or self._records.consume(1, timeout_seconds)
            batch = []
            message: Any
            for message in found:
                error = message.error()
                if error is None:
                    batch.append(message)
                    self._position = int(message.offset()) + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._position = max(self._position, int(message.offset()))
                elif error.code() in LASTING or error.fatal():
                    raise KafkaException(error)
        return (columns(self._current, batch) if batch else None), self._position

    def close(self) -> None:
        """Close every connection."""
        consumers, self._records, self._offsets = (self._records, self._offsets), None, None
        for consumer in consumers:
            if consumer is not None:
                close(consumer)

    def _ends(self, what: str, partition: Partition) -> tuple[int, int]:
        # Offsets are asked for apart: a `read_committed` consumer is told the last stable offset instead of the end.
        if self._offsets is None:
            self._offsets = self._open("read_uncommitted")
        with self._answers(what, partition):
            self._offsets.poll(0)  # it reads nothing: only its log lines and errors wait there
            begin, end = self._offsets.get_watermark_offsets(TopicPartition(*partition), timeout=ANSWER_SECONDS)
        return int(begin), int(end)

    def _open(self, isolation_level: str) -> Consumer:
        consumer: Consumer = open_client(Consumer, self._kafka, reader_options(self._kafka, isolation_level))
        return consumer

    @contextmanager
    def _answers(self, what: str, partition: Partition) -> Iterator[None]:
        name = f"{what} {partition.topic}-{partition.number}"
        try:
            yield
        except KafkaException as problem:
            error = error_of(problem)
            text = without_secrets(told(error), self._kafka)
            if error.code() not in LASTING:
                raise NotNowError(f"{name}: {text}") from None
            raise DeliveryError(
                f"{name} could not be read: {text}; check that the topic exists, and the permissions of this user on it"
            ) from problem
