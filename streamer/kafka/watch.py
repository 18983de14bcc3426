"""The input held against what was seen of it before: a topic that grows or goes back has other streams than ours."""

from collections.abc import Mapping, Sequence

from streamer.core.events import Partition, Records
from streamer.errors import StateError


class InputWatch:
    """What the input must not do behind our back.

    partitions  of each topic, as the start found them
    output      the topic whose partitions must be as many
    """

    def __init__(self, partitions: Mapping[str, int], output: str) -> None:
        self._partitions = partitions
        self._output = output
        self._next: dict[Partition, int] = {}

    def begin(self, partition: Partition, offset: int) -> None:
        """Expect a partition's records from here on."""
        self._next[partition] = offset

    def check_order(self, records: Sequence[Records]) -> None:
        """StateError when a partition goes back: where its end was cut off, a client begins at the earliest."""
        for each in records:
            if each.offsets[0] < (expected := self._next[each.partition]):
                name = "{}-{}".format(*each.partition)
                raise StateError(
                    f"input {name}: expected offset {expected} or later, found {each.offsets[0]}: the topic's end was "
                    "cut off, or it was created anew; `streamer state reset`"
                )
            self._next[each.partition] = each.offsets[-1] + 1

    def check_partitions(self, topic: str, count: int) -> None:
        """StateError once a topic has more partitions than at the start."""
        if count > (before := self._partitions[topic]):
            raise StateError(
                f"input.topics: topic {topic!r} had {before} partitions at the start and has {count} now, so its "
                f"streams may go elsewhere; give {self._output!r} and the changelog as many, and start again"
            )
