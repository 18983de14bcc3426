"""A new producer for a transaction of unknown outcome, while brokers let none in."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamer.adapters.librdkafka.output import Output
from streamer.adapters.librdkafka.transactions import Transactions
from streamer.delivery import NotNowError
from streamer.kafka.letters import LetterLimit
from streamer.settings import KafkaSettings

HOURS = 1_100  # tries of 20 s: as many doublings no float could hold


class Away:
    """A producer that no broker lets in, and the limits it was given."""

    def __init__(self, limits: list[float]) -> None:
        self._limits = limits

    def init_transactions(self, limit_seconds: float) -> None:
        self._limits.append(limit_seconds)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    def purge(self, **_: object) -> None:
        """Nothing was sent."""


def test_a_producer_is_tried_for_hours_with_more_time_each_time_up_to_a_limit():
    limits: list[float] = []

    def away() -> Any:
        return Away(limits)

    transactions = Transactions(away, Output("", 1, LetterLimit(0, lambda: None), 1000), KafkaSettings(), "id")
    for _ in range(HOURS):
        with pytest.raises(NotNowError, match="not let in"):
            transactions.recover()
    assert limits == [5.0, 10.0, *[20.0] * (HOURS - 2)]
