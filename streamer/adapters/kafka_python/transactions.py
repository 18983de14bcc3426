"""Transactions attempted once, and every way they end given one of the five names of `streamer.delivery`.

    begin ─► messages ─► positions ─► commit asked ─► committed
      └──────────┴────────────┴─► abort ─► aborted      └─► no answer: unknown
                                    └─► no answer: unknown

Once the commit is asked for, an error says nothing about the outcome: the request may be done, or still on its way.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from kafka.errors import (
    AuthorizationError,
    CommitFailedError,
    FencedInstanceIdError,
    InvalidProducerEpochError,
    KafkaError,
    MessageSizeTooLargeError,
    OffsetMetadataTooLargeError,
    ProducerFencedError,
    RecordListTooLargeError,
    RetriableError,
    TopicAuthorizationFailedError,
    UnsupportedForMessageFormatError,
    UnsupportedVersionError,
)
from kafka.structs import ConsumerGroupMetadata

from streamer.adapters.kafka_python.metadata import offsets_of
from streamer.adapters.kafka_python.output import Output, Prepared
from streamer.adapters.kafka_python.producer import TransactionalProducer
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
from streamer.errors import ConfigError
from streamer.kafka.producer_state import State
from streamer.kafka.wording import PARTITIONS, PERMISSIONS, place_taken, transaction_refused
from streamer.kafka.wording import TOO_LARGE as RAISE_LIMIT

OPEN_SECONDS = 8.0  # of the 10 s after which the coordinator aborts the transaction by itself
COMMIT_SECONDS = 2.0  # at least, for the answer to a commit
ABORT_SECONDS = 2.0
ABANDON_SECONDS = 1.0
RECOVER_SECONDS = 5.0  # for a new producer to be let in; far below a poll interval

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
LASTING = (AuthorizationError, UnsupportedVersionError, UnsupportedForMessageFormatError, *TOO_LARGE)
TOLD_AS_TEXT = (TopicAuthorizationFailedError, OffsetMetadataTooLargeError)  # of positions: hidden in a message
REFUSED_EPOCH = (ProducerFencedError, InvalidProducerEpochError)

Positions = Mapping[Partition, Position]


@dataclass(frozen=True, slots=True)
class Owner:
    """Who sends: what an error has to say about the names that must be a process's own.

    describe  makes an error readable, and takes the secrets out of it
    """

    transactional_id: str
    describe: Callable[[object], str]


class Transactions:
    """One producer, replaced by `recover` when nobody knows what became of its transaction."""

    def __init__(self, open_producer: Callable[[], TransactionalProducer], output: Output, owner: Owner) -> None:
        self._open_producer = open_producer
        self._output = output
        self._owner = owner
        self._producer: TransactionalProducer | None = None
        self._state = State.UNKNOWN

    def begin(self, limit_seconds: float) -> None:
        """Open a producer, and end whatever a predecessor of the same transactional id left. Raises KafkaError."""
        self._producer = self._open_producer()
        self._producer.let_in(limit_seconds)
        self._state = State.FIT

    def recover(self) -> None:
        """Begin again with a new producer. Raises NotNowError, FencedError, DeliveryError."""
        self.abandon()
        try:
            self.begin(RECOVER_SECONDS)
        except ConfigError as error:
            raise NotNowError(str(error)) from None
        except KafkaError as error:
            reasons = list(self._producer.reasons(error)) if self._producer else [error]
            self.abandon()
            if any(isinstance(reason, REFUSED_EPOCH) for reason in reasons):
                raise self._fenced(error) from None
            if any(isinstance(reason, LASTING) for reason in reasons):
                raise self._lasting(error) from None
            raise NotNowError(f"a new producer was not let in: {self._owner.describe(error)}") from None

    def transact(
        self,
        output: Sequence[Messages],
        positions: Positions,
        group: Callable[[], ConsumerGroupMetadata],
        may_look: bool,
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
                refused = isinstance(error.__cause__, TOO_LARGE) and self._state is State.SPENT and prepared.letters
                if not refused or not self._output.limit.refused():
                    raise

    def abandon(self) -> None:
        """Give the producer up; what it has not sent stays unsent."""
        producer, self._producer, self._state = self._producer, None, State.UNKNOWN
        if producer is not None:
            producer.abandon(ABANDON_SECONDS)

    def _attempt(self, prepared: Prepared, positions: Positions, group: Callable[[], ConsumerGroupMetadata]) -> None:
        group()  # not a member: do not even begin
        producer = self._fit_producer()
        began = time.monotonic()
        self._state = State.UNKNOWN  # until the end is known
        try:
            producer.begin_transaction()
            self._output.publish(producer, prepared, began + OPEN_SECONDS)
            if positions:
                producer.send_offsets(offsets_of(positions), group(), began + OPEN_SECONDS - time.monotonic())
            asked = producer.ask_to_commit()
        except (KafkaError, NotAMemberError, ValueError) as error:
            self._abort(producer, error)
        try:
            open_until = began + OPEN_SECONDS + COMMIT_SECONDS
            producer.await_commit(asked, max(COMMIT_SECONDS, open_until - time.monotonic()))
        except KafkaError as error:
            raise OutcomeUnknownError(f"the answer to a commit: {self._owner.describe(error)}") from None
        self._state = State.FIT

    def _fit_producer(self) -> TransactionalProducer:
        if self._state is State.SPENT:
            try:
                self.recover()
            except NotNowError as error:
                self._state = State.SPENT
                raise AbortedError(str(error)) from None
        if self._producer is None or self._state is State.UNKNOWN:
            raise OutcomeUnknownError("the producer is not to be used again before it is replaced")
        return self._producer

    def _abort(self, producer: TransactionalProducer, error: Exception) -> NoReturn:
        """End the transaction that failed before its commit was asked for, and say what that means."""
        reasons = list(producer.reasons(error))
        try:
            producer.abort(ABORT_SECONDS)
            self._state = State.SPENT
        except KafkaError as failed:
            reasons += producer.reasons(failed)
        self._classify(error, reasons)

    def _classify(self, error: Exception, reasons: Sequence[BaseException]) -> NoReturn:
        told = self._owner.describe(error)
        if any(isinstance(reason, FencedInstanceIdError) for reason in reasons):
            raise self._fenced(error) from None
        if any(isinstance(reason, REFUSED_EPOCH) for reason in reasons):
            # The coordinator refuses the epoch after a transaction that took too long, too. Which it was, the group
            # knows: `KafkaClient.recover` asks whether the place is still ours before it takes the next epoch, and a
            # zombie that gets past that finds its positions refused: a transaction without positions is never sent.
            self._state = State.UNKNOWN
            raise OutcomeUnknownError(told) from None
        if lasting := next((reason for reason in reasons if isinstance(reason, LASTING)), None):
            raise self._lasting(lasting) from lasting
        if isinstance(error, ValueError) or any(kind.__name__ in told for kind in TOLD_AS_TEXT):
            # ValueError: the library's word for a partition that does not exist
            raise self._lasting(error) from error
        if self._state is State.UNKNOWN:
            raise OutcomeUnknownError(f"a transaction was not seen aborted: {told}") from None
        if any(isinstance(reason, CommitFailedError | NotAMemberError) for reason in reasons):
            raise NotAMemberError(told) from None
        raise AbortedError(told) from None

    def _fenced(self, error: BaseException) -> FencedError:
        return place_taken(self._owner.transactional_id, type(error).__name__)

    def _lasting(self, error: BaseException) -> DeliveryError:
        remedy = PERMISSIONS
        if isinstance(error, TOO_LARGE):
            remedy = RAISE_LIMIT
        elif isinstance(error, RetriableError | ValueError):
            remedy = PARTITIONS
        told = f"{type(error).__name__}: {self._owner.describe(error)}"
        return transaction_refused(self._owner.transactional_id, told, remedy)
