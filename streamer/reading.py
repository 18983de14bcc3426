"""Read a partition up to an offset within a limit of time: for commands, which wait and then give up."""

import time
from collections.abc import Callable, Iterator

from streamer.core.events import Partition, Records
from streamer.delivery import LogReader, NotNowError

SLICE_SECONDS = 0.2


class TooSlowError(NotNowError):
    """The time was over before the end was reached."""


def patiently(ask: Callable[[], int], deadline: float) -> int:
    """An answer from a reader that is not connected yet. Raises NotNowError when the time is over."""
    while True:
        try:
            return ask()
        except NotNowError:
            if time.monotonic() > deadline:
                raise


def read_up_to(reader: LogReader, partition: Partition, offsets: range, deadline: float) -> Iterator[Records]:
    """The records in a range of offsets, what is not committed left out.

    deadline  as time.monotonic counts; TooSlowError beyond, naming how far it came. An open transaction, too, holds
              the reader back.
    """
    if not offsets:
        return
    reader.seek(partition, offsets.start)
    position = offsets.start
    while position < offsets.stop:
        try:
            records, position = reader.read(SLICE_SECONDS)
        except NotNowError:
            records = None
        if records is not None:
            yield records
        if position < offsets.stop and time.monotonic() > deadline:
            raise TooSlowError(
                f"{partition.topic}-{partition.number} was read up to offset {position} of {offsets.stop} in time; "
                "an open transaction may hold it back until it times out, so try again"
            )
