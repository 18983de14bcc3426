"""librdkafka's clients come to their end within a limit, and its log lines through ours."""

import logging
import math
from threading import Event

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from streamer.adapters.librdkafka.client import LibrdkafkaClient
from streamer.adapters.librdkafka.ending import close, ended
from streamer.adapters.librdkafka.log_lines import LogLines
from streamer.adapters.librdkafka.options import consumer_options, producer_options, reader_options
from streamer.core.events import Partition
from streamer.delivery import NotNowError, OutcomeUnknownError, Position
from streamer.errors import ConfigError
from streamer.kafka.watch import InputWatch
from streamer.kafka.wording import without_secrets
from streamer.settings import InputSettings, KafkaSettings, OutputSettings
from tests.integration.waiting import eventually

NOWHERE = "127.0.0.1:1"


def test_what_does_not_end_is_left_to_itself_when_the_limit_is_over():
    over = Event()
    assert not ended(over.wait, 0.01)
    over.set()
    assert ended(over.wait, 60.0)


def test_what_fails_while_it_ends_is_raised_where_it_was_asked_for():
    def fail() -> None:
        raise ValueError("in the other thread")

    with pytest.raises(ValueError, match="in the other thread"):
        ended(fail, 60.0)


def test_a_consumer_that_cannot_be_closed_is_said_and_no_error(caplog):
    class Refusing:
        def close(self) -> None:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    close(Refusing())
    assert "event=close_failed error=_TRANSPORT" in caplog.text


def settings(**options: object) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=NOWHERE, group_id="g", client="confluent", options=options)


@pytest.mark.parametrize("reader", [False, True], ids=["member", "reader"])
def test_the_lines_that_the_operator_asks_for_come_as_log_records_without_the_values_of_options(caplog, reader):
    kafka = settings(log_level=7, debug="broker", **{"client.id": "hunter2"})
    consumer = Consumer(reader_options(kafka, "read_committed") if reader else consumer_options(kafka, lambda _: None))
    eventually(lambda: consumer.poll(0.05) or "Enter main broker thread" in caplog.text, "a line of the library")
    close(consumer)
    (kind,) = {record.name for record in caplog.records}
    assert kind == "librdkafka"
    assert "***#consumer" in caplog.text
    assert "hunter2" not in caplog.text


def test_without_being_asked_the_library_says_nothing_of_a_broker_that_is_away(caplog, capfd):
    kafka = settings()
    heard: list[object] = []
    options = producer_options(kafka, OutputSettings(topic="o"), "t", 1000, {"error_cb": heard.append})
    producer = Producer(options)
    eventually(lambda: producer.poll(0.05) or heard, "an error")
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


def test_words_of_the_librarys_own_messages_are_no_secrets():
    assert without_secrets("a broker", settings(debug="broker")) == "a broker"


@pytest.mark.parametrize("name", ["batch.size", "batch.num.messages", "linger.ms", "queue.buffering.max.ms"])
def test_what_would_make_a_transaction_longer_than_its_time_is_refused_by_its_name(name):
    with pytest.raises(ConfigError, match=rf"kafka\.options\.{name}: the daemon sets this itself; remove it"):
        producer_options(settings(**{name: 100}), OutputSettings(topic="o"), "t", 1000, {})


def test_a_line_is_written_with_its_level(caplog):
    LogLines(settings()).log(logging.ERROR, "%s [%s] %s", "FAIL", "consumer-1", "100 %")
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [(logging.ERROR, "FAIL [consumer-1] 100 %")]


def test_a_starting_position_of_unknown_outcome_gets_a_new_producer_as_nobody_else_would_ask_for_one(monkeypatch):
    client = LibrdkafkaClient(settings(), InputSettings(), OutputSettings(), cluster=None)
    usable = [False]

    def transact(*_: object) -> None:
        if not usable[0]:
            raise OutcomeUnknownError("the producer is not to be used again before it is replaced")

    monkeypatch.setattr(client, "transact", transact)
    monkeypatch.setattr(client, "recover", lambda: usable.append(usable.pop() or True))
    start = {Partition("events", 0): Position(0, "tc1;lwm=0")}
    with pytest.raises(NotNowError, match="not to be used again"):
        client.commit_positions(start)
    client.commit_positions(start)


EVENTS = Partition("events", 0)
END = 1012  # after record 10 come the records of an aborted transaction, and its marker


def message(offset: int, error: int | None = None) -> Message:
    return Message(topic="events", partition=0, offset=offset, error=None if error is None else KafkaError(error))


class Log:
    """A consumer that returns these messages, one list a call, and knows where their partition ends."""

    def __init__(self, *polls: list[Message]) -> None:
        self._polls = list(polls)

    def consume(self, _count: int, _timeout_seconds: float) -> list[Message]:
        return self._polls.pop(0) if self._polls else []

    def get_watermark_offsets(self, _partition: object, *, cached: bool) -> tuple[int, int]:
        return 0, END


class Reading:
    """The membership of a member that reads one partition."""

    owned = running = frozenset({EVENTS})
    name_taken = False

    def check(self) -> None:
        """We are who we were."""

    def run(self, *_: object) -> None:
        """It runs already."""


@pytest.mark.parametrize(
    "polls",
    [
        [[message(10)], [message(END, KafkaError._PARTITION_EOF)]],
        [[message(10), message(END, KafkaError._PARTITION_EOF)]],
    ],
    ids=["after the last record", "with it"],
)
def test_nothing_lags_once_the_end_of_a_log_that_ends_with_markers_has_come(polls):
    client = LibrdkafkaClient(settings(), InputSettings(topics=["events"]), OutputSettings(), cluster=None)
    client._consumer, client._membership, client._look_again = Log(*polls), Reading(), math.inf
    client._watch = InputWatch({"events": 1}, "forecasts")
    client.resume(EVENTS, 10)
    assert client.lag() == {EVENTS: END - 10}
    read = [records.offsets for _ in range(3) for records in client.poll(0.0, 100)]
    assert (read, client.lag()) == ([[10]], {EVENTS: 0})
    client.resume(EVENTS, 7)
    assert client.lag() == {EVENTS: END - 7}
