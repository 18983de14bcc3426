"""Input that retention deletes while it is read: a reader too slow goes on with what is left, and does not say so.

Offsets are missing in any log that transactions write: their markers, and records of aborted ones. Missing ones are
input lost only where they lie before the log's beginning, so that is asked for, some seconds later and seldom.
Markers that were passed just before retention deleted them count as lost, too: nobody can tell any more.

Where a partition cannot be asked about, what was passed over is kept until it can be. There may be much of it, so two
neighbours become one, and only where the log begins between them may it count too many:

    first  missing          first  missing
        5        2     ──►      5        5
       17        3
"""

import logging
from collections.abc import Callable, Iterable

import numpy as np

from streamer.core.events import Partition, Records
from streamer.core.timegrid import Ints
from streamer.delivery import NotNowError
from streamer.logs import log

LOOK_SECONDS = 5.0  # logs that transactions write have something missing in every batch
MOST_GAPS = 10_000  # of a partition, 160 kB


class Overtaking:
    """Offsets that were passed over in the partitions that are read, and how many of them were deleted.

    begin    the first offset of a partition that is still there; NotNowError: to be asked another time
    on_lost  told how many records were deleted before they were read
    """

    def __init__(self, begin: Callable[[Partition], int], on_lost: Callable[[int], None]) -> None:
        self._begin = begin
        self._on_lost = on_lost
        self._missing: dict[Partition, Ints] = {}  # (n, 2) the first missing offset, and how many
        self._said: set[Partition] = set()
        self._look_again = 0.0

    def read(self, records: Records, expected: int) -> None:
        """Records that follow one another; those before reach to the offset `expected`."""
        if records.offsets[-1] - expected < len(records):  # none is missing
            return
        found = np.asarray(records.offsets, np.int64)
        follows = np.concatenate(([expected], found[:-1] + 1))
        jumps = found > follows
        missing = np.column_stack((follows, found - follows))[jumps]
        if (before := self._missing.get(records.partition)) is not None:
            missing = np.concatenate((before, missing))
        while len(missing) > MOST_GAPS:
            missing = _halved(missing)
        self._missing[records.partition] = missing

    def end(self, partitions: Iterable[Partition]) -> None:
        """These are not read any more."""
        for partition in partitions:
            self._missing.pop(partition, None)
            self._said.discard(partition)

    def look(self, now: float) -> None:
        """Hold what was missing against where the logs begin, at most every LOOK_SECONDS; `now` in seconds."""
        if not self._missing or now < self._look_again:
            return
        self._look_again = now + LOOK_SECONDS
        for partition in list(self._missing):
            try:
                begin = self._begin(partition)
            except NotNowError:  # a leader is away; the others can wait, too, and are asked about first then
                self._missing[partition] = self._missing.pop(partition)
                return
            first, missing = self._missing.pop(partition).T
            lost = int(np.clip(begin - first, 0, missing).sum())
            if lost:
                self._tell(partition, lost, begin)

    def _tell(self, partition: Partition, lost: int, begin: int) -> None:
        self._on_lost(lost)
        if partition not in self._said:
            self._said.add(partition)
            name = f"{partition.topic}-{partition.number}"
            log("input_overtaken", logging.WARNING, partition=name, lost=lost, begins=begin)


def _halved(missing: Ints) -> Ints:
    """Gaps in their order, each two of them made one."""
    begins = np.arange(0, len(missing), 2)
    return np.column_stack((missing[begins, 0], np.add.reduceat(missing[:, 1], begins)))
