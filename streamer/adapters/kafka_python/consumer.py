"""kafka-python's consumer, for records whose header names are not UTF-8.

Kafka takes any bytes for a name, and so do librdkafka's producers. The library decodes names strictly, and takes a
record whose name it cannot decode for a corrupt one: nothing behind it could be read any more.
"""

from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.record.default_records import DefaultRecordBatch


class Consumer(KafkaConsumer):  # type: ignore[misc]  # the library has no types
    """A consumer that reads such names with U+FFFD for what is not UTF-8, as nobody could send them on otherwise."""

    def __init__(self, *topics: str, **configuration: Any) -> None:
        super().__init__(*topics, **configuration)
        self._fetcher.PartitionRecords = _Fetched


class _Fetched(Fetcher.PartitionRecords):  # type: ignore[misc]
    def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Iterator[Any]:
        unpacked: Iterator[Any] = super()._unpack_records(tp, _Batches(records), *deserializers)
        return unpacked


class _Batches:
    """Batches of the library's, those of the present format made lenient."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        return _Batch(batch._buffer) if isinstance(batch, DefaultRecordBatch) else batch


class _Batch(DefaultRecordBatch):  # type: ignore[misc]
    _buffer: Any

    def _read_msg(self) -> Any:
        try:
            return super()._read_msg()
        except UnicodeDecodeError:  # nothing has moved; the rest is read more slowly, in one copy
            self._buffer = _Lenient(self._buffer)
            return super()._read_msg()


class _Lenient(bytearray):
    """Bytes whose slices are text in any case."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Lenient(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)
