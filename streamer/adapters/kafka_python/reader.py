"""Reads partitions outside the group: changelogs, and input to be replayed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError, RetriableError, UnknownBrokerIdError

from streamer.adapters.kafka_python.columns import columns
from streamer.adapters.kafka_python.connecting import open_client
from streamer.adapters.kafka_python.consumer import Consumer
from streamer.adapters.kafka_python.options import quiet_library, reader_options
from streamer.core.events import Partition, Records
from streamer.delivery import DeliveryError, NotNowError
from streamer.errors import ConfigError
from streamer.kafka.wording import without_secrets
from streamer.settings import KafkaSettings

ANSWER_MS = 2_000
MAX_RECORDS = 4_000  # some tens of milliseconds of the library's work, so that the loop can poll in between


class KafkaPythonLogReader:
    """`streamer.delivery.LogReader`. Opens its connections when it is first used; raises NotNowError until then."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._records: Any = None
        self._offsets: Any = None
        self._current: TopicPartition | None = None

    def end(self, partition: Partition) -> int:
        """The offset after the last record, those of open transactions too."""
        asked = TopicPartition(*partition)
        with self._answers("the end of", partition):
            return int(self._ends().end_offsets([asked], timeout_ms=ANSWER_MS)[asked])

    def begin(self, partition: Partition) -> int:
        """The first offset that is still there."""
        asked = TopicPartition(*partition)
        with self._answers("the beginning of", partition):
            return int(self._ends().beginning_offsets([asked], timeout_ms=ANSWER_MS)[asked])

    def seek(self, partition: Partition, offset: int) -> None:
        """Read this partition next, from the offset on."""
        self._current = TopicPartition(*partition)
        if self._records is None:
            self._records = self._open("read_committed")
        if self._records.assignment() != {self._current}:
            self._records.assign([self._current])
        self._records.seek(self._current, offset)

    def rest(self) -> None:
        """Read nothing until the next `seek`: this library fetches only while it is asked."""
        self._current = None

    def read(self, timeout_seconds: float) -> tuple[Records | None, int]:
        """Records that came in time, if any, and the position: beyond them, and beyond aborted ones and markers."""
        current = self._current
        if current is None:
            raise NotNowError("read before seek")
        partition = Partition(*current)
        with self._answers("the records of", partition):
            batch = self._records.poll(timeout_ms=round(timeout_seconds * 1000), max_records=MAX_RECORDS).get(current)
            position = None if batch else self._records.position(current, timeout_ms=0)
        if batch:
            return columns(partition, batch), batch[-1].offset + 1
        if position is None:
            raise NotNowError(f"the position in {partition.topic}-{partition.number} is not known yet")
        return None, int(position)

    def close(self) -> None:
        """Close every connection."""
        for consumer in (self._records, self._offsets):
            if consumer is not None:
                consumer.close(autocommit=False, timeout_ms=1_000)

    def _ends(self) -> Any:
        # Offsets are asked for apart: a `read_committed` consumer is told the last stable offset instead of the end.
        if self._offsets is None:
            self._offsets = self._open("read_uncommitted")
        return self._offsets

    def _open(self, isolation_level: str) -> Any:
        quiet_library()
        try:
            return open_client(Consumer, self._kafka, reader_options(self._kafka, isolation_level))
        except ConfigError as error:
            raise NotNowError(str(error)) from None

    @contextmanager
    def _answers(self, what: str, partition: Partition) -> Iterator[None]:
        name = f"{what} {partition.topic}-{partition.number}"
        try:
            yield
        except (RetriableError, UnknownBrokerIdError) as error:
            raise NotNowError(f"{name}: {type(error).__name__}") from None
        except KafkaError as error:
            raise DeliveryError(
                f"{name} could not be read: {type(error).__name__}: {without_secrets(error, self._kafka)}; "
                "check that the topic exists, and the permissions of this user on it"
            ) from error
