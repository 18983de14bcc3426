"""librdkafka's messages as columns: one list of each property, as every Python object per record costs."""

from collections.abc import Sequence
from typing import Any

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE

from streamer.core.events import NO_TIMESTAMP, Headers, Partition, Records


def by_partition(messages: Sequence[Any]) -> dict[Partition, list[Any]]:
    """Messages of each partition, in their order."""
    found: dict[tuple[str, int], list[Any]] = {}
    for message in messages:
        at = (message.topic(), message.partition())
        if at in found:
            found[at].append(message)
        else:
            found[at] = [message]
    return {Partition(*at): each for at, each in found.items()}


def columns(partition: Partition, batch: Sequence[Any]) -> Records:
    """Records of one partition, in their order."""

    def headers(index: int) -> Headers:
        return [(name, value or b"") for name, value in batch[index].headers() or ()]

    stamps = [message.timestamp() for message in batch]
    return Records(
        partition=partition,
        offsets=[message.offset() for message in batch],
        timestamps=[NO_TIMESTAMP if kind == TIMESTAMP_NOT_AVAILABLE else ms for kind, ms in stamps],
        keys=[message.key() for message in batch],
        values=[message.value() for message in batch],
        headers=headers,
    )
