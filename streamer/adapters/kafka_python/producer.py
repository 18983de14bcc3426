"""kafka-python's producer with a limit on every wait of a transaction, which the library's own methods do not have."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata


class TransactionalProducer(KafkaProducer):  # type: ignore[misc]  # the library has no types
    """A producer whose every wait ends; KafkaTimeoutError says that nothing is known yet."""

    def let_in(self, limit_seconds: float) -> None:
        """Have the coordinator end what a predecessor left; `init_transactions` waits `max_block_ms`, as for a send."""
        self._wait(self._transaction_manager.initialize_transactions(), limit_seconds)

    def send_offsets(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: ConsumerGroupMetadata, limit_seconds: float
    ) -> None:
        """Add the group's positions to the transaction."""
        self._wait(self._transaction_manager.send_offsets_to_transaction(dict(offsets), group), limit_seconds)

    def ask_to_commit(self) -> Any:
        """Ask for the commit; what raises here was not asked. The result is for `await_commit`."""
        return self._transaction_manager.begin_commit()

    def await_commit(self, asked: Any, limit_seconds: float) -> None:
        """Return when the commit is confirmed; whatever is raised here leaves its outcome open."""
        self._wait(asked, limit_seconds)

    def abort(self, limit_seconds: float) -> None:
        """Abort the transaction; it is aborted only if this returns.

        The producer is not fit for another one: a message that failed leaves a gap in its numbering, and positions
        that were refused would go with the next ones, even those of a partition that is lost by then.
        """
        self._wait(self._transaction_manager.begin_abort(), limit_seconds)

    def abandon(self, limit_seconds: float) -> None:
        """Close at once, sending nothing more; `close` would first wait for unsent messages, and stay open if any."""
        self._unregister_cleanup()
        self._sender.force_close()
        self._sender.join(limit_seconds)
        self._closed = True

    def reasons(self, error: BaseException | None) -> Iterator[BaseException]:
        """An error and what is behind it: the library wraps errors, and keeps the last one to itself."""
        yield from _unwrapped([error, self._transaction_manager.last_error])

    def _wait(self, result: Any, limit_seconds: float) -> None:
        self._sender.wakeup()
        if not result.wait(timeout_ms=max(0.0, limit_seconds * 1000)):
            raise KafkaTimeoutError(f"no answer within {limit_seconds:.1f} s")


def _unwrapped(errors: Iterable[Any]) -> Iterator[BaseException]:
    for error in errors:
        if isinstance(error, type) and issubclass(error, KafkaError):
            yield error()
        elif isinstance(error, BaseException):
            yield error
            yield from _unwrapped([*error.args, error.__cause__])
