"""Dead letters cut to what their topic takes: one that it refused would abort everything in its transaction."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import repeat

from streamer.core.events import Headers
from streamer.core.wire import DEAD_LETTER_HEADER
from streamer.delivery import Messages

KEPT_BYTES = 1024  # of the value of a dead letter that its topic refuses
SURELY_SMALL_BYTES = 16 * 1024
BATCH_BYTES = 61  # the head of a record batch, format 2
RECORD_BYTES = 21  # a record's own numbers at their longest, without its key, value and headers
LENGTH_BYTES = 5  # the longest length, as a variable-length integer
LOOK_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected record on its way to its topic."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def bytes(self) -> int:
        """Its size alone in a batch, at most; compression cannot be relied on, and may even add a little."""
        headers = sum(2 * LENGTH_BYTES + len(name.encode()) + len(content or b"") for name, content in self.headers)
        size = BATCH_BYTES + RECORD_BYTES + 3 * LENGTH_BYTES + len(self.key or b"") + len(self.value or b"") + headers
        return size + size // 128 + 64

    def versions(self) -> "Iterator[DeadLetter]":
        """As it is; cut; cut to what is surely small."""
        yield self
        cut = replace(self, value=_cut(self.value))
        yield cut
        reasons = [(name, _cut(value) or b"") for name, value in self.headers if name.startswith(DEAD_LETTER_HEADER)]
        yield replace(cut, key=_cut(self.key), headers=reasons)

    def fitting(self, limit_bytes: int) -> "DeadLetter":
        """The first version within the limit, else the last."""
        version = self
        for version in self.versions():
            if version.bytes <= limit_bytes:
                break
        return version


class LetterLimit:
    """The largest record that the dead letter topic takes, looked up again when it matters.

    look_up  asks the brokers, with some patience; None where they do not say
    """

    def __init__(self, limit_bytes: int, look_up: Callable[[], int | None]) -> None:
        self.bytes = limit_bytes
        self._look_up = look_up
        self._look_again = time.monotonic() + LOOK_AGAIN_SECONDS

    def fit(self, letters: Iterable[DeadLetter], may_look: bool) -> list[DeadLetter]:
        """The letters, cut where they are too large; before that, ask whether they still are."""
        whole = list(letters)
        if may_look and time.monotonic() >= self._look_again and any(each.bytes > self.bytes for each in whole):
            self._look_again = time.monotonic() + LOOK_AGAIN_SECONDS
            self.bytes = self._look_up() or self.bytes
        return [letter.fitting(self.bytes) for letter in whole]

    def refused(self) -> bool:
        """Lower the limit, since a letter within it was refused; False if it cannot be lower."""
        if self.bytes == 0:
            return False
        self.bytes = SURELY_SMALL_BYTES if self.bytes > SURELY_SMALL_BYTES else 0
        self._look_again = time.monotonic() + LOOK_AGAIN_SECONDS
        return True


def dead_letters(messages: Messages) -> Iterator[DeadLetter]:
    """Messages for the dead letter topic, one by one."""
    headers: Iterable[Headers] = messages.headers if messages.headers is not None else repeat(())
    for key, value, header in zip(messages.keys, messages.values, headers, strict=False):
        yield DeadLetter(messages.partition.number, key, value, header)


def _cut(content: bytes | None) -> bytes | None:
    return None if content is None else content[:KEPT_BYTES]
