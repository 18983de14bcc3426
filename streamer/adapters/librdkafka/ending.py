"""The library's clients ended within a limit: its own `close` has none, and waits for brokers and for name look-ups."""

import logging
from collections.abc import Callable
from threading import Thread

from confluent_kafka import Consumer, KafkaException

from streamer.adapters.librdkafka.failures import error_of
from streamer.logs import log

CLOSE_SECONDS = 3.0  # the library waits 5 s for the group's answer to our leave, which is on its way by then


def ended(end: Callable[[], object], limit_seconds: float) -> bool:
    """Whether this came to its end in time; else it goes on beside us, and ends with the process at the latest.

    Raises what `end` raised.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            end()
        except BaseException as failure:
            failures.append(failure)

    thread = Thread(target=run, name="librdkafka-end", daemon=True)
    thread.start()
    thread.join(limit_seconds)
    ends = not thread.is_alive()
    if failures:
        try:
            raise failures[0]
        finally:
            del end, failures, run, thread  # its traceback holds this frame, which would keep the client for ever
    return ends


def close(consumer: Consumer) -> None:
    """Close a consumer; one that is in a group leaves it, or is dropped by it a session timeout later."""
    try:
        if not ended(consumer.close, CLOSE_SECONDS):
            log("close_cut_short", logging.WARNING, seconds=CLOSE_SECONDS)
    except KafkaException as problem:
        log("close_failed", logging.WARNING, error=error_of(problem).name())
    except SystemError:  # confluent-kafka stumbles over the error of a consumer that was fenced
        log("close_failed", logging.WARNING, error="fenced")
