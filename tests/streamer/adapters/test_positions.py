"""Committed positions asked for while the group rebalances: the answer comes later, with either library."""

import pytest
from confluent_kafka import KafkaError, KafkaException
from kafka.errors import IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError

from streamer.adapters.kafka_python.positions import Explain
from streamer.adapters.kafka_python.positions import Positions as KafkaPythonPositions
from streamer.adapters.librdkafka.positions import Positions as LibrdkafkaPositions
from streamer.core.events import Partition
from streamer.delivery import NotAMemberError, NotNowError, Position
from streamer.settings import InputSettings, KafkaSettings

KAFKA, INPUT, EVENTS = KafkaSettings(group_id="g"), InputSettings(topics=["events"]), Partition("events", 0)


class Rebalancing:
    """A consumer of either library whose group rebalances whenever it is asked."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def poll(self, _timeout: float) -> None:
        """Nothing is read."""

    def _refuse(self, *_: object, **__: object) -> None:
        raise self._error

    committed = commit = beginning_offsets = get_watermark_offsets = _refuse


@pytest.mark.parametrize("error", [IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError])
def test_kafka_python_asks_again_while_the_group_rebalances_and_commits_as_a_member_only(error):
    positions = KafkaPythonPositions(Rebalancing(error()), INPUT, Explain(KAFKA))  # type: ignore[arg-type]
    with pytest.raises(NotNowError, match=error.__name__):
        positions.committed([EVENTS])
    with pytest.raises(NotNowError, match=error.__name__):
        positions.starting_offset(EVENTS)
    with pytest.raises(NotAMemberError, match=error.__name__):
        positions.commit({EVENTS: Position(0, "")})


@pytest.mark.parametrize("code", ["ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS", "UNKNOWN_MEMBER_ID"])
def test_librdkafka_asks_again_while_the_group_rebalances(code, monkeypatch):
    error = KafkaException(KafkaError(getattr(KafkaError, code)))
    monkeypatch.setattr("streamer.adapters.librdkafka.positions.open_client", lambda *_: Rebalancing(error))
    positions = LibrdkafkaPositions(Rebalancing(error), KAFKA, INPUT)  # type: ignore[arg-type]
    with pytest.raises(NotNowError, match=code):
        positions.committed([EVENTS])
    with pytest.raises(NotNowError, match=code):
        positions.starting_offset(EVENTS)
