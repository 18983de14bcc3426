"""Things done to a member of a group, or to its broker, at the worst moment."""

import os
import signal
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message
from kafka.errors import KafkaTimeoutError

from streamer.adapters.librdkafka.membership import GENERATION, METADATA_MAGIC
from tests.integration.broker import Broker
from tests.integration.members import Member


class Producer:
    """The member's producer of librdkafka, which cannot be patched, with something done around its commit."""

    def __init__(self, producer: Any, before: Callable[[], None] = lambda: None, answered: bool = True) -> None:
        self._producer, self._before, self._answered = producer, before, answered

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def commit_transaction(self, limit_seconds: float) -> None:
        self._before()
        self._producer.commit_transaction(limit_seconds)
        if not self._answered:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the answer is lost"))


def before_commit(member: Member, act: Callable[[], None]) -> None:
    """Do something just before the member's next commit is asked for."""
    transactions = member.client._transactions
    if member.kafka.client == "confluent":
        transactions._producer = Producer(transactions._producer, act)
        return
    producer = transactions._producer
    ask = producer.ask_to_commit

    def ask_to_commit() -> object:
        act()
        return ask()

    producer.ask_to_commit = ask_to_commit


def before_positions(member: Member, act: Callable[[], object]) -> None:
    """Do something in the middle of the member's next transaction: after its messages, before its positions."""
    ask, asked = member.client._membership.group, []

    def group() -> object:
        asked.append(True)
        if len(asked) == 2:
            act()
        return ask()

    member.client._membership.group = group


def lose_the_answer(member: Member) -> None:
    """The member's next commit is done, but it does not hear of it."""
    transactions = member.client._transactions
    if member.kafka.client == "confluent":
        transactions._producer = Producer(transactions._producer, answered=False)
        return
    await_commit = transactions._producer.await_commit

    def lose(asked: object, limit_seconds: float) -> None:
        await_commit(asked, limit_seconds)
        raise KafkaTimeoutError("the answer is lost")

    transactions._producer.await_commit = lose


# Its membership


def membership(member: Member, generation_id: int | None = None, member_id: str | None = None) -> Any:
    """The member's identity in its group, as its library has it, with some of it replaced."""
    if member.kafka.client == "kafka-python":
        true = member.client._consumer.group_metadata()
        claim = {"generation_id": generation_id, "member_id": member_id}
        return true._replace(**{name: value for name, value in claim.items() if value is not None})
    generation, name = member.client._membership._identity()
    told = bytes(member.client._consumer.consumer_group_metadata())
    _group, _name, rest = told[len(METADATA_MAGIC) + GENERATION.size :].split(b"\0", 2)
    claimed = GENERATION.pack(generation if generation_id is None else generation_id)
    named = (name if member_id is None else member_id).encode()
    return b"\0".join((METADATA_MAGIC + claimed + member.group.encode(), named, rest))


def dropped(member: Member) -> None:
    """The member as its library has it when it hears that the group dropped it."""
    if member.kafka.client == "kafka-python":
        member.client._consumer._coordinator.reset_generation()
    else:
        member.client._membership._identity = lambda: (-1, "")


def with_group(member: Member, group: object) -> None:
    """Have the member claim a membership in its transactions; None: its true one."""
    member.client._membership.__dict__.pop("group", None)
    if group is not None:
        member.client._membership.group = lambda: group


# Its broker


def hang(broker: Broker) -> None:
    os.kill(broker.process.pid, signal.SIGSTOP)
    os.waitpid(broker.process.pid, os.WUNTRACED)  # until its last thread has stopped


def go_on(broker: Broker) -> None:
    os.kill(broker.process.pid, signal.SIGCONT)


def give_up(member: Member) -> None:
    """What librdkafka says of a consumer whose heartbeat was refused for its name: it is of no use any more."""
    text = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
    member.client._note(Message(error=KafkaError(KafkaError._FATAL, f"Fatal error: {text}")))
