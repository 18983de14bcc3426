"""Messages are handed to the library in rounds: each once, in the order of its partition, a batch at a time."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.adapters.librdkafka.output import CHUNK, OVERHEAD, Output
from streamer.core.events import Partition
from streamer.delivery import Messages
from streamer.kafka.letters import LetterLimit

BATCH = 5_000


class Library:
    """What a producer is handed, round by round."""

    def __init__(self) -> None:
        self.rounds: list[dict[int, list[tuple[bytes, bytes | None]]]] = [{}]

    def produce(self, _topic, value, key, partition, headers=()):
        self.rounds[-1].setdefault(partition, []).append((key, value))

    def flush(self, _timeout: float) -> int:
        self.rounds.append({})
        return 0


def column(sizes, head: bool) -> list[bytes | None]:
    return [None if size is None else bytes(size) for size in sizes] * (CHUNK if head else 1)


columns = st.builds(column, st.lists(st.sampled_from([None, 0, 10, 300, 2 * BATCH]), max_size=12), st.booleans())


@given(st.lists(columns, max_size=4), st.booleans())
def test_every_message_goes_once_and_a_round_has_a_batch_of_each_partition(values, with_headers):
    output = Output("", 1, LetterLimit(0, lambda: None), BATCH)
    messages = [
        Messages(
            Partition("forecasts", n),
            [f"{n}-{i}".encode() for i in range(len(each))],
            each,
            [()] * len(each) if with_headers else None,
        )
        for n, each in enumerate(values)
    ]
    library = Library()
    output.publish(library, output.prepare(messages, may_look=False), float("inf"), lambda: None)
    for n, each in enumerate(messages):
        sent = [message for turn in library.rounds for message in turn.get(n, [])]
        assert sent == list(zip(each.keys, each.values, strict=True))
        for turn in library.rounds:
            size = sum(len(value or b"") + OVERHEAD for _, value in turn.get(n, []))
            assert size <= BATCH or len(turn[n]) <= CHUNK
