"""How many records the next batch may have, so that one turn of the loop stays short.

What comes out of a record, and what its stream's state takes, is known beforehand. How many steps it feeds is not: one
that ends a stream's silence feeds the missing steps as well, and after an outage all streams end theirs at once. So the
next batch is made as if its records feed as many steps as those of the last one; it grows again by doubling. What was
read ahead of that is as large as it is.
"""

MAX_BATCH_RECORDS = 10_000
MAX_BATCH_NUMBERS = 720_000  # forecast numbers of one batch, some 6.5 MB: long horizons make smaller batches
MAX_BATCH_STATE_BYTES = 4 << 20  # of one batch's streams: were all of them new, each would be snapshotted with it
MAX_BATCH_STEPS = 20_000  # 120 ms at the 6 µs that a step of the trainer's standard GRU of 64 units takes
FIRST_RECORDS = 100  # of the first batch, which may end a silence as well: that of the time before the start


class BatchLimit:
    """The most records of the next batch: `records`.

    numbers      forecast numbers that come of one record
    state_bytes  of one stream
    """

    def __init__(self, numbers: int, state_bytes: int) -> None:
        fit = min(MAX_BATCH_RECORDS, MAX_BATCH_NUMBERS // numbers, MAX_BATCH_STATE_BYTES // state_bytes)
        self._most = max(1, fit)
        self.records = min(self._most, FIRST_RECORDS)

    def advanced(self, records: int, steps: int) -> None:
        """The last batch's records, and the steps that they fed to their streams."""
        if not records:
            return
        alike = MAX_BATCH_STEPS * records // max(1, steps)
        self.records = max(1, min(self._most, 2 * self.records, alike))
