"""How many records the next batch may have."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.batches import FIRST_RECORDS, MAX_BATCH_RECORDS, MAX_BATCH_STEPS, BatchLimit

batches = st.lists(st.integers(0, 10_000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, 2_000 * n))))


@pytest.mark.parametrize(
    ("numbers", "state_bytes", "most"),
    [(1, 1, MAX_BATCH_RECORDS), (1_000, 1, 720), (1, 1 << 20, 4), (1_000_000, 1, 1), (1, 1 << 30, 1)],
)
def test_forecasts_and_states_that_are_large_make_small_batches(numbers, state_bytes, most):
    limit = BatchLimit(numbers, state_bytes)
    sizes = [limit.records]
    for _ in range(MAX_BATCH_RECORDS.bit_length()):
        limit.advanced(limit.records, 0)
        sizes.append(limit.records)
    assert sizes[0] == min(most, FIRST_RECORDS)  # what it feeds is not known yet
    assert sizes == sorted(sizes)
    assert sizes[-1] == most


@given(before=batches, records=st.integers(1, 10_000), each=st.integers(1, 2_000))
def test_a_batch_like_the_last_one_feeds_no_more_steps_than_one_may_unless_it_is_one_record(before, records, each):
    limit = BatchLimit(1, 1)
    for batch in [*before, (records, records * each)]:
        limit.advanced(*batch)
        assert 1 <= limit.records <= MAX_BATCH_RECORDS
    assert limit.records == 1 or limit.records * each <= MAX_BATCH_STEPS


@given(before=batches)
def test_batches_grow_to_their_full_size_again_once_gaps_are_over(before):
    limit = BatchLimit(1, 1)
    for batch in before:
        limit.advanced(*batch)
    sizes = [limit.records]
    for _ in range(MAX_BATCH_RECORDS.bit_length()):
        limit.advanced(limit.records, limit.records)
        sizes.append(limit.records)
    assert all(after == min(2 * size, MAX_BATCH_RECORDS) for size, after in pairwise(sizes))
    assert sizes[-1] == MAX_BATCH_RECORDS


def test_records_that_are_all_rejected_and_batches_of_none_make_no_batch_smaller():
    limit = BatchLimit(1, 1)
    before = limit.records
    limit.advanced(10, 0)
    assert limit.records == 2 * before
    limit.advanced(0, 0)
    assert limit.records == 2 * before
