"""Transactions attempted once, and every way they end given one of the five names of `streamer.delivery`.

    begin ─► messages ─► positions ─► flush ─► commit asked ─► committed
      └──────────┴────────────┴─────────┴─► abort ─► aborted   └─► no answer: unknown
                                              └─► no answer: unknown

Once the commit is asked for, an error says nothing about the outcome, also where the library takes it for aborted:
a transaction may fail in its eyes while the request is on its way. Only a message that failed is told before.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from streamer.adapters.librdkafka.ending import ended
from streamer.adapters.librdkafka.failures import (
    LASTING,
    NO_PARTITION,
    REBALANCING,
    REFUSED_EPOCH,
    TOO_LARGE,
    error_of,
    told,
)
from streamer.adapters.librdkafka.output import Output, Prepared, flush
from streamer.core.events import Partition
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
from streamer.kafka.producer_state import State
from streamer.kafka.wording import (
    PARTITIONS,
    PERMISSIONS,
    name_taken,
    place_taken,
    transaction_refused,
    without_secrets,
)
from streamer.kafka.wording import TOO_LARGE as RAISE_LIMIT
from streamer.settings import KafkaSettings

OPEN_SECONDS = 8.0  # of the 10 s after which the coordinator aborts the transaction by itself
BEGIN_SECONDS = 1.0  # asks no broker
COMMIT_SECONDS = 2.0  # at least, for the answer to a commit
ABORT_SECONDS = 2.0
ABANDON_SECONDS = 1.0
GRACE_SECONDS = 1.0  # for the library to keep a limit that it was given
RECOVER_SECONDS = 5.0  # for a new producer to be let in, twice as long after each that was not
DOUBLINGS = 2  # then it is 20 s, far below a poll interval

TOLD_BEFORE_COMMIT = LASTING | NO_PARTITION | {KafkaError._INCONSISTENT}  # what messages fail with, before it is asked

NOT_BY_A_MESSAGE = REFUSED_EPOCH | REBALANCING | {KafkaError.FENCED_INSTANCE_ID}
PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)  # by our own abort

Positions = Mapping[Partition, Position]


class Transactions:
    """One producer, replaced by `recover` when nobody knows what became of its transaction.

    open_producer     makes one that has not been let in yet
    transactional_id  its name, for messages
    """

    def __init__(
        self, open_producer: Callable[[], Producer], output: Output, kafka: KafkaSettings, transactional_id: str
    ) -> None:
        self._open_producer = open_producer
        self._output = output
        self._kafka = kafka
        self._transactional_id = transactional_id
        self._producer: Producer | None = None
        self._state = State.UNKNOWN
        self._failed_message: Any = None
        self._refused = 0  # producers in a row that were not let in

    def begin(self, limit_seconds: float) -> None:
        """Open a producer, and end what a predecessor of the same transactional id left. Raises KafkaException."""
        self._producer = self._open_producer()
        producer = self._producer
        _within(limit_seconds, "being let in", lambda: producer.init_transactions(limit_seconds))
        self._state = State.FIT

    def recover(self) -> None:
        """Begin again with a new producer. Raises NotNowError, FencedError, DeliveryError."""
        self.abandon()
        limit = RECOVER_SECONDS * 2 ** min(self._refused, DOUBLINGS)
        self._refused += 1
        try:
            self.begin(limit)
            self._refused = 0
        except OutcomeUnknownError as problem:
            self.abandon()
            raise NotNowError(f"a new producer was not let in: {problem}") from None
        except KafkaException as problem:
            error = error_of(problem)
            self.abandon()
            if error.code() in REFUSED_EPOCH:
                raise self._fenced(error) from None
            if error.code() in LASTING:
                raise self._lasting(error) from problem
            raise NotNowError(f"a new producer was not let in: {self._told(error)}") from None

    def transact(
        self, output: Sequence[Messages], positions: Positions, group: Callable[[], bytes], may_look: bool
    ) -> None:
        """One transaction; again only with dead letters cut, if they were refused for their size.

        group     the membership to send positions with, asked for at that moment; raises NotAMemberError
        may_look  there is time to look up how large a dead letter may be

        Raises what `KafkaClient.transact` says.
        """
        while True:
            prepared = self._output.prepare(output, may_look)
            try:
                return self._attempt(prepared, positions, group)
            except DeliveryError as error:
                cause = error.__cause__
                too_large = isinstance(cause, KafkaException) and error_of(cause).code() in TOO_LARGE
                if not (too_large and self._state is State.SPENT and prepared.letters):
                    raise
                if not self._output.limit.refused():
                    raise

    def _failed(self) -> Any:
        return self._failed_message

    def message_failed(self, error: Any, _message: object) -> None:
        """Called by the library for a message that failed, and for no other."""
        if self._failed_message is None and error.code() not in PURGED:
            self._failed_message = error

    def abandon(self) -> None:
        """Give the producer up; what it has not sent stays unsent."""
        producer, self._producer, self._state = self._producer, None, State.UNKNOWN
        if producer is not None:
            abandon(producer)

    def _attempt(self, prepared: Prepared, positions: Positions, group: Callable[[], bytes]) -> None:
        group()  # not a member: do not even begin
        producer = self._fit_producer()
        began = time.monotonic()
        self._failed_message = None
        deadline = began + OPEN_SECONDS
        self._state = State.UNKNOWN  # until the end is known
        try:
            _within(BEGIN_SECONDS, "beginning a transaction", producer.begin_transaction)
            self._output.publish(producer, prepared, deadline, self._failed)
            if positions:
                _send_positions(producer, positions, group(), deadline)
            flush(producer, deadline, self._failed)
        except (KafkaException, BufferError, NotAMemberError) as problem:
            self._abort(producer, problem)
        left = max(COMMIT_SECONDS, deadline + COMMIT_SECONDS - time.monotonic())
        try:
            _within(left, "a commit", lambda: producer.commit_transaction(left))
        except KafkaException as problem:
            self._judge_commit(producer, problem)
        self._state = State.FIT

    def _fit_producer(self) -> Producer:
        if self._state is State.SPENT:
            try:
                self.recover()
            except NotNowError as error:
                self._state = State.SPENT
                raise AbortedError(str(error)) from None
        if self._producer is None or self._state is State.UNKNOWN:
            raise OutcomeUnknownError("the producer is not to be used again before it is replaced")
        return self._producer

    def _judge_commit(self, producer: Producer, problem: KafkaException) -> NoReturn:
        error = error_of(problem)
        if error.txn_requires_abort() and error.code() in TOLD_BEFORE_COMMIT:
            self._abort(producer, problem)
        raise OutcomeUnknownError(f"the answer to a commit: {self._told(error)}") from None

    def _abort(self, producer: Producer, problem: Exception) -> NoReturn:
        """End the transaction that failed before its commit was asked for, and say what that means."""
        if not (isinstance(problem, KafkaException) and error_of(problem).fatal()):
            try:
                _within(ABORT_SECONDS, "an abort", lambda: producer.abort_transaction(ABORT_SECONDS))
                self._state = State.SPENT
            except KafkaException as failed:
                if error_of(failed).fatal():
                    problem = failed
        self._classify(problem)

    def _classify(self, problem: Exception) -> NoReturn:
        if isinstance(problem, NotAMemberError):
            self._unless_aborted(str(problem))
            raise problem
        if isinstance(problem, KafkaException) and error_of(problem).code() not in NOT_BY_A_MESSAGE:
            problem = KafkaException(self._failed_message or error_of(problem))  # what followed is a consequence
        error: Any = error_of(problem) if isinstance(problem, KafkaException) else None
        code = error.code() if error is not None else None
        text = self._told(error) if error is not None else str(problem)
        if code == KafkaError.FENCED_INSTANCE_ID:
            raise name_taken(self._kafka) from None
        if code in REFUSED_EPOCH:
            # The coordinator refuses the epoch after a transaction that took too long, too. Which it was, the group
            # knows: `KafkaClient.recover` asks whether the place is still ours before it takes the next epoch, and a
            # zombie that gets past that finds its positions refused: a transaction without positions is never sent.
            self._state = State.UNKNOWN
            raise OutcomeUnknownError(text) from None
        if code in LASTING:
            raise self._lasting(error) from problem
        self._unless_aborted(text)
        if code in REBALANCING:
            raise NotAMemberError(text) from None
        raise AbortedError(text) from None

    def _unless_aborted(self, text: str) -> None:
        if self._state is State.UNKNOWN:
            raise OutcomeUnknownError(f"a transaction was not seen aborted: {text}") from None

    def _told(self, error: Any) -> str:
        return without_secrets(told(error), self._kafka)

    def _fenced(self, error: Any) -> FencedError:
        return place_taken(self._transactional_id, error.name())

    def _lasting(self, error: Any) -> DeliveryError:
        remedy = PERMISSIONS
        if error.code() in TOO_LARGE:
            remedy = RAISE_LIMIT
        elif error.code() in NO_PARTITION:
            remedy = PARTITIONS
        return transaction_refused(self._transactional_id, self._told(error), remedy)


def abandon(producer: Producer) -> None:
    """End a producer at once; its own `close` would wait for every message, for as long as that takes."""
    holders = [producer]
    del producer

    def end() -> None:
        holders[0].purge(blocking=False)
        holders.clear()  # the last reference: the library ends its threads

    ended(end, ABANDON_SECONDS)


def _send_positions(producer: Producer, positions: Positions, group: bytes, deadline: float) -> None:
    left = max(0.001, deadline - time.monotonic())
    offsets = _offsets(positions)
    _within(left, "sending positions", lambda: producer.send_offsets_to_transaction(offsets, group, left))


def _within(limit_seconds: float, what: str, call: Callable[[], object]) -> None:
    """Raises what the call raises, and OutcomeUnknownError where it does not come back: only a new producer will do.

    Tried: a broker that restarts between two transactions can make `send_offsets_to_transaction` wait for ever,
    whatever limit it was given; the others ask the same thread in the same way.
    """
    if not ended(call, limit_seconds + GRACE_SECONDS):
        raise OutcomeUnknownError(
            f"the library did not return from {what} within {limit_seconds + GRACE_SECONDS:.1f} s"
        )


def _offsets(positions: Positions) -> list[TopicPartition]:
    return [TopicPartition(*p, at.offset, at.metadata) for p, at in positions.items()]
