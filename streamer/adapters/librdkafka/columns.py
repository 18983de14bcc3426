"""librdkafka's messages as columns: one list of each property, as every Python object per record costs.

`map` over an unbound method takes a third of the time of a comprehension that calls it (0.033 against 0.105 µs).
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from streamer.core.events import NO_TIMESTAMP, Headers, Partition, Records

OFFSET: Any = Message.offset  # its stubs allow None, which a record that was read does not have
TOPIC: Any = Message.topic
NUMBER: Any = Message.partition


def by_partition(messages: Sequence[Any]) -> dict[Partition, list[Any]]:
    """Messages of each partition, in their order."""
    found: defaultdict[tuple[str, int], list[Any]] = defaultdict(list)
    for message, topic, number in zip(messages, map(TOPIC, messages), map(NUMBER, messages), strict=True):
        found[topic, number].append(message)
    return {Partition(*at): each for at, each in found.items()}


def columns(partition: Partition, batch: Sequence[Any]) -> Records:
    """Records of one partition, in their order."""

    def headers(index: int) -> Headers:
        try:
            found = batch[index].headers()
        except SystemError:  # a name that is not UTF-8, which the library can only fail at; the others go with it
            return ()
        return [(name, value or b"") for name, value in found or ()]

    stamps = list(map(Message.timestamp, batch))
    return Records(
        partition=partition,
        offsets=list(map(OFFSET, batch)),
        timestamps=[NO_TIMESTAMP if kind == TIMESTAMP_NOT_AVAILABLE else ms for kind, ms in stamps],
        keys=list(map(Message.key, batch)),
        values=list(map(Message.value, batch)),
        headers=headers,
    )
