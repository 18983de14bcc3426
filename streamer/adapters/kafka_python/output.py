"""Messages sent and confirmed. A send that fails says so only in its own future, so every one is asked."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from streamer.adapters.kafka_python.producer import TransactionalProducer
from streamer.delivery import Messages
from streamer.kafka.letters import DeadLetter, LetterLimit, dead_letters


@dataclass(frozen=True, slots=True)
class Prepared:
    """What one transaction sends: messages as they are, and dead letters as their topic takes them."""

    messages: Sequence[Messages]
    letters: Sequence[DeadLetter]


class Output:
    """The messages' side of a transaction.

    dead_letter_topic  messages for it are cut when they are too large for it; empty: there is none
    """

    def __init__(self, dead_letter_topic: str, limit: LetterLimit) -> None:
        self.limit = limit
        self._dead_letter_topic = dead_letter_topic

    def prepare(self, output: Sequence[Messages], may_look: bool) -> Prepared:
        """Cut dead letters to size; `may_look`: there is time to ask the brokers for it."""
        messages = [each for each in output if each.partition.topic != self._dead_letter_topic]
        dead = [each for each in output if each.partition.topic == self._dead_letter_topic]
        letters = [letter for each in dead for letter in dead_letters(each)]
        return Prepared(messages, self.limit.fit(letters, may_look))

    def publish(self, producer: TransactionalProducer, prepared: Prepared, deadline: float) -> None:
        """Send everything and return when the brokers have stored it; raises the library's error of what failed."""
        futures = [future for messages in prepared.messages for future in _send(producer, messages)]
        futures += [self._send_letter(producer, letter) for letter in prepared.letters]
        for future in futures:
            if not future.is_done or future.exception is not None:
                future.get(timeout=max(0.0, deadline - time.monotonic()))

    def _send_letter(self, producer: TransactionalProducer, letter: DeadLetter) -> Any:
        topic = self._dead_letter_topic
        # kafka-python cannot send a record with neither key nor value; an empty value comes nearest
        value = b"" if letter.key is None and letter.value is None else letter.value
        headers = [(name, content or b"") for name, content in letter.headers]
        number = letter.partition % len(producer.partitions_for(topic))
        return producer.send(topic, value, letter.key, headers, number)


def _send(producer: TransactionalProducer, messages: Messages) -> list[Any]:
    topic, number = messages.partition
    send = producer.send
    headers: Iterable[Any] = map(list, messages.headers) if messages.headers is not None else repeat(None)
    rows = zip(messages.keys, messages.values, headers, strict=False)  # `repeat` has no end
    return [send(topic, value, key, header, number) for key, value, header in rows]
