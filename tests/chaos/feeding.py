"""Events that keep coming while things break: a thread that never quite runs out of them until it is told to."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kafka.errors import KafkaError

from streamer.adapters.kafka_python.producer import TransactionalProducer
from tests.integration.records import Record

TICK_SECONDS = 0.1
LARGEST_PIECE = 5_000
CONFIRM_SECONDS = 30
ABANDON_SECONDS = 1.0
HALF_SECONDS = 60.0  # until half of it is sent; after n times as long, a share of 1 / (n + 1) is left


class Feeding:
    """Sends records in the background, ever more slowly, so that on any machine some are to come.

    left = all / (1 + time / HALF_SECONDS), so the rate is left² / (all · HALF_SECONDS)

    fed   how many the brokers have confirmed; where they did not answer, some may be in the topic twice
    """

    def __init__(self, bootstrap: str, topic: str, records: Sequence[Record]) -> None:
        self.fed = 0
        self._bootstrap, self._topic, self._records = bootstrap, topic, records
        self._hurry, self._over = threading.Event(), False
        self._producer: TransactionalProducer | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def left(self) -> int:
        """How many are still to come."""
        return len(self._records) - self.fed

    def rest(self) -> None:
        """Send all that is left, and return when it is in the topic."""
        self._hurry.set()
        self._thread.join()

    def close(self) -> None:
        """Send no more."""
        self._over = True
        self.rest()

    def _run(self) -> None:
        due = 1.0
        while self.left and not self._over:
            count = self.left if self._hurry.is_set() else int(due)
            due += self.left**2 / (len(self._records) * HALF_SECONDS) * TICK_SECONDS - int(due)
            if count:
                self._send(self._records[self.fed : self.fed + min(count, LARGEST_PIECE)])
            self._hurry.wait(TICK_SECONDS)
        self._drop_producer()

    def _send(self, records: Sequence[Record]) -> None:
        try:
            if self._producer is None:
                options = {"bootstrap_servers": self._bootstrap, "allow_auto_create_topics": False}
                self._producer = TransactionalProducer(**options)
            sent = [self._producer.send(self._topic, r.value, r.key, partition=r.partition) for r in records]
            for future in sent:
                future.get(CONFIRM_SECONDS)
        except KafkaError:  # brokers are away, as scenarios will have it: again, with a new producer
            self._drop_producer()
        else:
            self.fed += len(records)

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.abandon(ABANDON_SECONDS)  # `close` would wait for brokers that are away, and stay half closed


@contextmanager
def feeding(bootstrap: str, topic: str, records: Sequence[Record]) -> Iterator[Feeding]:
    """A feeding that ends with its scenario."""
    made = Feeding(bootstrap, topic, records)
    try:
        yield made
    finally:
        made.close()
