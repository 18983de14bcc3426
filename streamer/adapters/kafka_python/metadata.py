"""What is noted with a position, ended by a zero as confluent-kafka writes it and, reading, relies on."""

from collections.abc import Mapping
from typing import Any

from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from streamer.core.events import Partition
from streamer.delivery import Position

END = "\0"  # confluent-kafka sends it, and reads whatever memory follows what does not end with it


def offsets_of(positions: Mapping[Partition, Position]) -> dict[TopicPartition, OffsetAndMetadata]:
    """Positions as the library commits them."""
    return {TopicPartition(*p): OffsetAndMetadata(at.offset, at.metadata + END, -1) for p, at in positions.items()}


def position_of(found: Any) -> Position | None:
    """A committed position as the library tells it; None for none."""
    return None if found is None else Position(int(found.offset), (found.metadata or "").removesuffix(END))
