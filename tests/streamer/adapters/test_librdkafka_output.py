"""Messages are handed to the library in rounds: each once, in the order of its partition, a batch at a time."""

from itertools import pairwise

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from streamer.adapters.librdkafka.output import OVERHEAD, Output
from streamer.core.events import Partition
from streamer.delivery import Messages
from streamer.kafka.letters import LetterLimit

BATCH, MESSAGES = 2_000, 9  # bytes of a batch, and messages


class Library:
    """What a producer is handed, round by round: messages by their partition."""

    def __init__(self) -> None:
        self.rounds: list[dict[int, list[tuple[bytes, bytes | None]]]] = [{}]

    def produce(self, _topic, value, key, partition, headers=()):
        self.rounds[-1].setdefault(partition, []).append((key, value))

    def flush(self, _timeout: float) -> int:
        self.rounds.append({})
        return 0


def publish(messages: list[Messages], failed=lambda: None) -> Library:
    output, library = Output("", 1, LetterLimit(0, lambda: None), BATCH), Library()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamer.adapters.librdkafka.output.BATCH_MESSAGES", MESSAGES)
        output.publish(library, output.prepare(messages, may_look=False), float("inf"), failed)
    return library


def size(sent) -> int:
    return sum(len(key) + len(value or b"") + OVERHEAD for key, value in sent)


columns = st.tuples(
    st.integers(0, 2),  # the partition
    st.lists(st.tuples(st.sampled_from([1, 60, 512]), st.sampled_from([None, 0, 10, 300, 2 * BATCH])), max_size=40),
    st.booleans(),
)


@given(st.lists(columns, max_size=5))
def test_every_message_goes_once_in_its_order_and_a_round_has_a_batch_of_each_partition(given_columns):
    messages = [
        Messages(
            Partition("forecasts", number),
            [f"{n}-{i}-".encode().ljust(key, b"k") for i, (key, _) in enumerate(rows)],
            [None if value is None else bytes(value) for _, value in rows],
            [()] * len(rows) if with_headers else None,
        )
        for n, (number, rows, with_headers) in enumerate(given_columns)
    ]
    rounds = publish(messages).rounds
    for number in range(3):
        columns = [each for each in messages if each.partition.number == number]
        rows = [row for each in columns for row in zip(each.keys, each.values, strict=True)]
        batches = [turn[number] for turn in rounds if number in turn]
        assert [row for batch in batches for row in batch] == rows
        assert all(number in turn for turn in rounds[: len(batches)])  # no round without it before its end
        assert all(size(batch) <= BATCH or len(batch) == 1 for batch in batches)
        assert all(len(batch) <= MESSAGES for batch in batches)
        last = {each.keys[-1] for each in columns if each.keys}
        for batch, after in pairwise(batches):
            full = len(batch) == MESSAGES or size([*batch, after[0]]) > BATCH
            assert full or batch[-1][0] in last


def test_nothing_more_is_handed_over_once_a_message_has_failed():
    messages = Messages(Partition("forecasts", 0), [b"k"] * 9, [bytes(BATCH)] * 9)
    with pytest.raises(KafkaException):
        publish([messages], lambda: KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
