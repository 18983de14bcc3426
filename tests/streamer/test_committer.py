"""The committer by itself: what it asks of a client, whatever the client says."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.checkpoint import Part, position_of
from streamer.committer import Committer
from streamer.core.arena import Arena
from streamer.core.events import Partition
from streamer.core.held import HeldHere
from streamer.core.ledger import Ledger
from streamer.delivery import (
    AbortedError,
    DeliveryError,
    FencedError,
    Messages,
    NotAMemberError,
    NotNowError,
    OutcomeUnknownError,
    Position,
)
from streamer.tasks import Phase, Task

PARTITIONS = [Partition("events", number) for number in range(3)]
ANSWERS = ("committed", "aborted", "refused", "done", "lost", "late")


class Client:
    """Answers as told, and keeps what was really committed: (partition, offset, value)."""

    def __init__(self, answers: Sequence[str], silences: Sequence[bool]) -> None:
        self.answers, self.silences = list(answers), list(silences)
        self.positions: dict[Partition, Position] = {}
        self.written: list[tuple[Partition, bytes | None]] = []
        self.sent: list[set[Partition]] = []
        self.may_send, self._pending = True, False
        self._late: list[tuple[Sequence[Messages], dict[Partition, Position]]] = []

    def transact(self, output, positions):
        assert self.may_send, "the old producer was used again"
        self.sent.append(set(positions))
        match self.answers.pop(0) if self.answers else "committed":
            case "aborted":
                raise AbortedError("as told")
            case "refused":
                raise NotAMemberError("as told")
            case "committed":
                self._commit(output, positions)
            case truth:
                self.may_send = False
                if truth == "done":
                    self._commit(output, positions)
                if truth == "late":
                    self._late.append((output, dict(positions)))
                raise OutcomeUnknownError("as told")

    def recover(self):
        if self.silences and self.silences.pop():
            raise NotNowError("as told")
        for late in self._late:
            self._commit(*late)
        self._late.clear()
        self.may_send = True

    def committed(self, partitions):
        if self.silences and self.silences.pop():
            raise NotNowError("as told")
        return {partition: self.positions.get(partition) for partition in partitions}

    def _commit(self, output, positions):
        self.positions.update(positions)
        self.written += [(m.partition, value) for m in output for value in m.values]


def part(partition: Partition, before: int, offset: int) -> Part:
    task = Task(partition, Ledger(Arena(HeldHere((), 1), 0, 1)))
    messages = [Messages(partition, [b"k"], [b"%d" % offset])]
    return Part(task, before, position_of(offset, offset), messages, np.zeros(0, np.int64), 0, 0, 0)


def settled(committer: Committer) -> list[Part]:
    """Everything it says is committed, until it has nothing more to do."""
    done: list[Part] = []
    for _ in range(100):
        done += committer.attempt()
        if not committer.busy:
            return done
    raise AssertionError("never settled")


@given(answers=st.lists(st.sampled_from(ANSWERS), max_size=8), silences=st.lists(st.booleans(), max_size=8))
def test_whatever_a_client_says_a_transaction_that_moves_a_position_is_done_exactly_once(answers, silences):
    client = Client(answers, silences)
    committer = Committer(client)
    parts = [part(p, 5, 8) for p in PARTITIONS]
    client.positions = {p: position_of(5, 5) for p in PARTITIONS}
    committer.begin(parts)
    assert settled(committer) == parts
    assert client.written == [(p, b"8") for p in PARTITIONS]
    assert not committer.busy


@given(
    answers=st.lists(st.sampled_from(ANSWERS), max_size=6),
    losses=st.lists(st.sets(st.sampled_from(range(3))), min_size=1, max_size=6),
)
def test_a_share_of_a_closed_task_is_in_no_later_transaction(answers, losses):
    client = Client(answers, [])
    committer = Committer(client)
    parts = [part(p, 5, 8) for p in PARTITIONS]
    committer.begin(parts)
    lost: set[Partition] = set()
    for losing in losses:
        for number in losing:
            parts[number].task.phase = Phase.CLOSED
            lost.add(PARTITIONS[number])
        before = len(client.sent)
        committer.attempt()
        assert all(not (sent & lost) for sent in client.sent[before:])
        if not committer.busy:
            break


def test_shares_go_in_smaller_transactions_after_each_that_was_aborted():
    client = Client(["aborted", "aborted"], [])
    committer = Committer(client)
    committer.begin([part(p, 5, 8) for p in PARTITIONS])
    settled(committer)
    assert client.sent == [{*PARTITIONS}, {PARTITIONS[0]}, {PARTITIONS[0]}, {PARTITIONS[1]}, {PARTITIONS[2]}]


@pytest.mark.parametrize("truth", ["done", "lost", "late"])
def test_a_transaction_that_moves_no_position_is_sent_again_when_its_outcome_is_unknown(truth):
    client = Client([truth], [])
    committer = Committer(client)
    client.positions = {PARTITIONS[0]: position_of(8, 8)}
    committer.begin([part(PARTITIONS[0], 8, 8)])
    settled(committer)
    assert len(client.sent) == 2


def test_what_was_lost_while_the_outcome_was_open_says_nothing_about_the_rest():
    client = Client(["lost"], [])
    committer = Committer(client)
    parts = [part(p, 5, 8) for p in PARTITIONS[:2]]
    committer.begin(parts)
    assert committer.attempt() == []
    parts[0].task.phase = Phase.CLOSED
    client.positions[PARTITIONS[0]] = position_of(9, 9)  # its new owner
    assert settled(committer) == parts[1:]
    assert client.sent == [{*PARTITIONS[:2]}, {PARTITIONS[1]}]


def test_when_all_is_lost_the_producer_is_renewed_and_nothing_is_sent():
    client = Client(["lost"], [])
    committer = Committer(client)
    parts = [part(PARTITIONS[0], 5, 8)]
    committer.begin(parts)
    committer.attempt()
    parts[0].task.phase = Phase.CLOSED
    assert settled(committer) == []
    assert client.may_send
    assert len(client.sent) == 1


def test_a_second_transaction_waits_for_the_first():
    committer = Committer(Client(["aborted"], []))
    committer.begin([part(PARTITIONS[0], 5, 8)])
    with pytest.raises(DeliveryError, match="open"):
        committer.begin([part(PARTITIONS[1], 5, 8)])


def test_a_successor_ends_everything(monkeypatch):
    client = Client([], [])

    def fenced(*_: object) -> None:
        raise FencedError("a successor")

    monkeypatch.setattr(client, "transact", fenced)
    committer = Committer(client)
    committer.begin([part(PARTITIONS[0], 5, 8)])
    with pytest.raises(FencedError):
        committer.attempt()
