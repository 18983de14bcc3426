"""Messages sent and confirmed. A send that fails says so only in its own future, so every one is asked."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, RecordListTooLargeError

from streamer.core.events import Headers
from streamer.core.wire import DEAD_LETTER_HEADER
from streamer.delivery import DeliveryError, Messages
from streamer.logs import log

KEPT_BYTES = 1024  # of the value of a dead letter that its topic refuses

TooLarge = (MessageSizeTooLargeError, RecordListTooLargeError)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected record on its way to its topic."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    def versions(self) -> "Iterable[DeadLetter]":
        """As it is; then, each for a topic that refuses the one before, cut; cut to what is surely small."""
        yield self
        cut = replace(self, value=_cut(self.value))
        yield cut
        reasons = [(name, _cut(value) or b"") for name, value in self.headers if name.startswith(DEAD_LETTER_HEADER)]
        yield replace(cut, key=_cut(self.key), headers=reasons)


class Output:
    """The producer's side of a commit.

    dead_letter_topic  messages for it are cut when they are too large for it; empty: there is none
    """

    def __init__(self, producer: KafkaProducer, dead_letter_topic: str) -> None:
        self._producer = producer
        self._dead_letter_topic = dead_letter_topic

    def publish(self, output: Sequence[Messages], limit_seconds: float) -> None:
        """Send messages, each to the partition it names, and return when the brokers have stored all of them.

        Raises DeliveryError when one is refused, or not confirmed within the limit.
        """
        deadline = time.monotonic() + limit_seconds
        letters = [letter for messages in output if self._is_dead(messages) for letter in _dead_letters(messages)]
        futures = [future for messages in output if not self._is_dead(messages) for future in self._send(messages)]
        self._publish_letters(letters, deadline)
        for future in futures:
            if not future.is_done or future.exception is not None:
                _confirm(future, deadline)

    def close(self, limit_seconds: float) -> None:
        """Close the connections; what is not sent by then stays unsent."""
        try:
            self._producer.close(timeout=limit_seconds)
        except KafkaTimeoutError:
            log("output_abandoned", seconds=limit_seconds)

    def _is_dead(self, messages: Messages) -> bool:
        return messages.partition.topic == self._dead_letter_topic

    def _send(self, messages: Messages) -> list[Any]:
        topic, number = messages.partition
        send = self._producer.send
        headers: Iterable[Any] = map(list, messages.headers) if messages.headers is not None else repeat(None)
        rows = zip(messages.keys, messages.values, headers, strict=False)  # `repeat` has no end
        try:
            return [send(topic, value, key, header, number) for key, value, header in rows]
        except (KafkaError, ValueError) as error:
            raise _undelivered(f"{topic}-{number}", error) from error

    def _publish_letters(self, letters: Sequence[DeadLetter], deadline: float) -> None:
        """Send dead letters; those their topic refuses go round again, cut."""
        rounds = [iter(letter.versions()) for letter in letters]
        while rounds:
            sent = [(versions, self._send_letter(versions)) for versions in rounds]
            rounds = [versions for versions, future in sent if _is_refused(future, deadline)]

    def _send_letter(self, versions: Iterable[DeadLetter]) -> Any:
        """Send the first version that this client lets pass."""
        topic = self._dead_letter_topic
        error: Exception | None = None
        for letter in versions:
            # kafka-python cannot send a record with neither key nor value; an empty value comes nearest
            value = b"" if letter.key is None and letter.value is None else letter.value
            headers = [(name, content or b"") for name, content in letter.headers]
            try:
                number = letter.partition % len(self._producer.partitions_for(topic))
                return self._producer.send(topic, value, letter.key, headers, number)
            except TooLarge as refused:
                error = refused
            except (KafkaError, ValueError) as failed:
                raise _undelivered(topic, failed) from failed
        raise _undelivered(topic, error) from error


def _dead_letters(messages: Messages) -> Iterable[DeadLetter]:
    headers: Iterable[Headers] = messages.headers if messages.headers is not None else repeat(())
    for key, value, header in zip(messages.keys, messages.values, headers, strict=False):
        yield DeadLetter(messages.partition.number, key, value, header)


def _cut(content: bytes | None) -> bytes | None:
    return None if content is None else content[:KEPT_BYTES]


def _is_refused(future: Any, deadline: float) -> bool:
    """Whether a confirmed send was refused for its size; DeliveryError if anything else went wrong."""
    try:
        _confirm(future, deadline)
    except DeliveryError as error:
        if isinstance(error.__cause__, TooLarge):
            return True
        raise
    return False


def _confirm(future: Any, deadline: float) -> None:
    try:
        future.get(timeout=max(0.0, deadline - time.monotonic()))
    except KafkaError as error:
        raise _undelivered("a message", error) from error


def _undelivered(what: str, error: Exception | None) -> DeliveryError:
    remedy = "nothing was committed, and a restart reads the same events again"
    if isinstance(error, TooLarge):
        remedy = f"raise max.message.bytes of its topic; {remedy}"
    return DeliveryError(f"{what} could not be published: {type(error).__name__}: {error}; {remedy}")
