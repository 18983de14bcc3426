"""Records as they come, events as they are understood, and the reasons why a record is not an event."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes]]

NO_TIMESTAMP = -1  # what Kafka itself says for a record without one

REASONS: Mapping[str, str] = {
    "not_json": "the value is not JSON in UTF-8",
    "not_object": "the value is absent, or JSON but not an object",
    "too_deep": "the JSON is nested deeper than an event can be",
    "too_large": "the value is larger than input.max_record_bytes",
    "missing_field": "a field that input.fields names is absent",
    "wrong_type": "a field holds another type than its own",
    "not_finite": "a number is NaN or infinite",
    "out_of_range": "a number is beyond input.max_abs",
    "bad_stream": "the stream id is empty, too long, or not UTF-8",
    "bad_timestamp": "the timestamp is absent, negative, past year 9999, or unreadable",
    "future": "the event is further ahead of its record's timestamp than input.max_future_seconds",
    "late": "the event lies before its stream's current slot",
    "duplicate": "the stream's current slot already has its event",
    "too_many_streams": "a new stream would exceed state.max_streams",
}


class Partition(NamedTuple):
    """A topic's partition; a replayed file is partition 0 of a topic named as the file."""

    topic: str
    number: int


def no_headers(_index: int) -> Headers:
    """The headers of a record from a file."""
    return ()


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one partition in offset order, as columns of one length.

    offsets     increasing, not always consecutive
    timestamps  the records' Kafka timestamps, epoch milliseconds, NO_TIMESTAMP where a record has none; None for files
    values      None for a record without a value
    headers     the headers of the record at an index; asked for only when it becomes a dead letter
    """

    partition: Partition
    offsets: Sequence[int]
    timestamps: Sequence[int] | None
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Callable[[int], Headers] = no_headers

    def __len__(self) -> int:
        return len(self.values)

    def part(self, begin: int, end: int) -> "Records":
        """The records at these positions, of those that there are."""
        headers = self.headers
        return Records(
            self.partition,
            self.offsets[begin:end],
            None if self.timestamps is None else self.timestamps[begin:end],
            self.keys[begin:end],
            self.values[begin:end],
            lambda index: headers(begin + index),
        )
