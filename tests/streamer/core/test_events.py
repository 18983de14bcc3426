"""Records as columns, and parts of them."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.events import Partition, Records

PARTITION = Partition("events", 3)


def told(records):
    """Each record as a row, with its headers."""
    stamps = [None] * len(records) if records.timestamps is None else records.timestamps
    columns = zip(records.offsets, stamps, records.keys, records.values, strict=True)
    return [(records.partition, *row, records.headers(i)) for i, row in enumerate(columns)]


@given(st.integers(0, 9), st.integers(0, 12), st.integers(0, 12), st.booleans())
def test_a_part_has_the_records_at_its_positions_with_their_own_headers(count, begin, end, stamped):
    values = [b"%d" % i for i in range(count)]
    headers = [[("name", value)] for value in values]
    stamps = range(100, 100 + count) if stamped else None
    records = Records(PARTITION, range(7, 7 + count), stamps, values, values, headers.__getitem__)
    assert told(records.part(begin, end)) == told(records)[begin:end]
