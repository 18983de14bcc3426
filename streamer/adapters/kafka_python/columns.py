"""kafka-python's records as columns."""

from collections.abc import Sequence
from typing import Any

from streamer.core.events import Headers, Partition, Records


def columns(partition: Partition, batch: Sequence[Any]) -> Records:
    """Records of one partition, in their order."""

    def headers(index: int) -> Headers:
        return [(name, value or b"") for name, value in batch[index].headers]

    return Records(
        partition=partition,
        offsets=[record.offset for record in batch],
        timestamps=[record.timestamp for record in batch],
        keys=[record.key for record in batch],
        values=[record.value for record in batch],
        headers=headers,
    )
