"""A transaction until its outcome is known: sent, resent, or settled by what the group has committed.

The bytes of a transaction are kept until then. What may go again is decided by ownership: only the shares of
partitions that still belong to the task that prepared them, asked anew before every attempt.

    ┌────────► attempt ── committed ──► done
    │            │ aborted, or not a member: again
    │            └ unknown ──► recover: a new producer ends what was pending
    │                             │ the committed position of one of our partitions has advanced ──► done
    └─────────────────────────────┘ none has: it was aborted (or moved no position, and may be repeated)
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from streamer.checkpoint import Part
from streamer.delivery import (
    AbortedError,
    DeliveryError,
    KafkaClient,
    NotAMemberError,
    NotNowError,
    OutcomeUnknownError,
)
from streamer.logs import log

Attempted = tuple[list[Part], float]  # the shares that are committed for certain, and the seconds that it took
_OTHER_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="transaction")


class Attempt(Protocol):
    """An attempt at a transaction that is being made."""

    def done(self) -> bool:
        """Whether it has come to its end."""
        ...

    def result(self) -> Attempted:
        """Wait for it, and return or raise what it did."""
        ...


def on_another_thread(attempt: Callable[[], Attempted]) -> Attempt:
    """Begin an attempt, on a thread that makes one after the other."""
    return _OTHER_THREAD.submit(attempt)


class Committer:
    """Brings one transaction at a time to its end.

    on_event  told "committed", "aborted", "refused", "unknown" or "recovered", for the metrics
    """

    def __init__(self, client: KafkaClient, on_event: Callable[[str], None] = lambda event: None) -> None:
        self._client = client
        self._on_event = on_event
        self._parts: list[Part] = []
        self._sent: list[Part] = []  # those of them that the attempt at hand holds
        self._at_once = 0  # shares of one attempt
        self._must_recover = False
        self.refusal = ""  # what the group said to the last attempt, if it was that which ended it

    @property
    def busy(self) -> bool:
        """Whether a transaction's outcome is still open."""
        return bool(self._parts) or self._must_recover

    @property
    def is_unknown(self) -> bool:
        """Whether the next attempt has to ask the brokers what became of the last one."""
        return self._must_recover

    def begin(self, parts: Sequence[Part]) -> None:
        """Take a transaction over; there must be none before it."""
        if self.busy:
            raise DeliveryError("a transaction was begun while another one's outcome was open")
        self._parts = list(parts)
        self._at_once = len(self._parts)

    def attempt(self) -> list[Part]:
        """One step towards the end; returns the shares that are committed for certain now.

        While `busy`, the caller lets the group rebalance and calls again. Raises FencedError and DeliveryError.
        """
        self.refusal = ""
        try:
            return self._settle() if self._must_recover else self._send()
        except NotNowError as problem:
            log("transaction_delayed", error=str(problem))
            return []

    def _send(self) -> list[Part]:
        """One transaction of everything; of fewer shares after each that was aborted.

        Each share is whole by itself once those before it are committed, so where brokers or the network are too
        slow for all of them within a transaction's time, they go one after another.
        """
        self._parts = [part for part in self._parts if part.task.is_ours]
        self._sent = self._parts[: max(1, self._at_once)]
        if not self._sent:
            return []
        messages = [m for part in self._sent for m in part.messages]
        positions = {part.task.partition: part.position for part in self._sent}
        try:
            self._client.transact(messages, positions)
        except AbortedError as problem:
            self._note("aborted", problem)
            self._at_once = len(self._sent) // 2
            return []
        except NotAMemberError as problem:
            self._note("refused", problem)
            self.refusal = str(problem)
            return []
        except OutcomeUnknownError as problem:
            self._note("unknown", problem)
            self._must_recover = True
            return []
        return self._done()

    def _settle(self) -> list[Part]:
        """Learn what became of a transaction of unknown outcome.

        1. a new producer with the same transactional id, which waits for or ends what was pending
        2. the stable committed positions   3. done if one strictly advanced on a partition still ours
        """
        self._client.recover()
        ours = [part for part in self._sent if part.task.is_ours]
        committed = self._client.committed([part.task.partition for part in ours]) if ours else {}
        self._must_recover = False
        self._on_event("recovered")
        for part in ours:
            found = committed[part.task.partition]
            if found is not None and found.offset >= part.position.offset > part.before:
                return self._done()
        return []

    def _done(self) -> list[Part]:
        self._parts = [part for part in self._parts if part not in self._sent]
        self._on_event("committed")
        return self._sent

    def _note(self, event: str, problem: Exception) -> None:
        self._on_event(event)
        log("transaction_" + event, error=str(problem))
