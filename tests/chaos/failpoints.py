"""`streamer run` that sends itself a signal at a chosen point, the n-th time it gets there: SIGKILL, or another.

    python -m tests.chaos.failpoints before-commit:3 run --config …
    python -m tests.chaos.failpoints before-commit:3:SIGSTOP run --config …

The points are put around the daemon's own parts from outside; the daemon knows nothing of them.
"""

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from threading import Thread, get_ident
from typing import Any, NamedTuple

from streamer import batches
from streamer.__main__ import main
from streamer.adapters.onnx_session import OnnxModel
from streamer.daemon import Daemon
from streamer.restore import Restore

POINTS = (
    "after-poll",
    "mid-block",
    "after-produce",
    "before-offsets",
    "before-commit",
    "mid-commit",
    "after-commit",
    "during-restore",
    "during-revoke",
)
MID_COMMIT_SECONDS = 0.002  # after a call that does not return before it is answered


class Place(NamedTuple):
    """A point is "before" or "after" a call of this, or "amid" one."""

    owner: Any
    name: str
    when: str


def places(client: str) -> dict[str, Place]:
    """Where each of POINTS is, with this `kafka.client`."""
    return {
        "mid-block": Place(OnnxModel, "advance", "after"),
        "during-restore": Place(Restore, "slice", "after"),
        "during-revoke": Place(Daemon, "_on_revoke", "before"),
    } | (_librdkafka() if client == "confluent" else _kafka_python())


def _kafka_python() -> dict[str, Place]:
    from kafka import KafkaProducer

    from streamer.adapters.kafka_python import KafkaPythonClient
    from streamer.adapters.kafka_python.producer import TransactionalProducer

    return {
        "after-poll": Place(KafkaPythonClient, "poll", "after"),
        "after-produce": Place(KafkaProducer, "send", "after"),
        "before-offsets": Place(TransactionalProducer, "send_offsets", "before"),
        "before-commit": Place(TransactionalProducer, "ask_to_commit", "before"),
        "mid-commit": Place(TransactionalProducer, "ask_to_commit", "after"),
        "after-commit": Place(TransactionalProducer, "await_commit", "after"),
    }


def _librdkafka() -> dict[str, Place]:
    import confluent_kafka

    from streamer.adapters.librdkafka import LibrdkafkaClient, client, output

    class Producer(confluent_kafka.Producer):  # the library's own is written in C, and cannot be changed
        pass

    client.Producer = Producer  # type: ignore[misc]
    return {
        "after-poll": Place(LibrdkafkaClient, "poll", "after"),
        "after-produce": Place(output, "_send", "after"),
        "before-offsets": Place(Producer, "send_offsets_to_transaction", "before"),
        "before-commit": Place(Producer, "commit_transaction", "before"),
        "mid-commit": Place(Producer, "commit_transaction", "amid"),
        "after-commit": Place(Producer, "commit_transaction", "after"),
    }


def send(number: signal.Signals) -> None:
    """Send a signal to the thread that calls, which does nothing more before it is heeded.

    One that the process gets is left to its main thread; until that is given a processor, this one would go on.
    """
    signal.pthread_kill(get_ident(), number)


def inside(owner: Any, name: str) -> Callable[[], bool]:
    """Whether a call of this is going on."""
    original: Callable[..., Any] = getattr(owner, name)
    depth = 0

    @functools.wraps(original)
    def around(*arguments: Any, **named: Any) -> Any:
        nonlocal depth
        depth += 1
        try:
            return original(*arguments, **named)
        finally:
            depth -= 1

    setattr(owner, name, around)
    return lambda: depth > 0


def arm(place: Place, times: int, number: signal.Signals) -> None:
    """Send the signal when the point is reached for the n-th time."""
    original: Callable[..., Any] = getattr(place.owner, place.name)
    left = times
    in_restore = inside(Restore, "slice") if number is signal.SIGSTOP else lambda: False

    def reached(after_seconds: float = 0.0) -> None:
        nonlocal left
        if in_restore():  # of a partition's first position: who wakes from that has no records to be refused
            return
        left -= 1
        if left:
            return
        if after_seconds:
            Thread(target=lambda: (time.sleep(after_seconds), send(number))).start()
        else:
            send(number)

    @functools.wraps(original)
    def around(*arguments: Any, **named: Any) -> Any:
        if place.when == "before":
            reached()
        elif place.when == "amid":
            reached(MID_COMMIT_SECONDS)
        result = original(*arguments, **named)
        if place.when == "after" and (place.name != "poll" or result):  # an empty poll is no point worth dying at
            reached()
        return result

    setattr(place.owner, place.name, around)


if __name__ == "__main__":
    batches.MAX_BATCH_RECORDS = 500  # many small batches: more places to die at
    where, count, *signals = sys.argv[1].split(":")
    client = os.environ["STREAMER_KAFKA__CLIENT"]
    arm(places(client)[where], int(count), signal.Signals[(signals or ["SIGKILL"])[0]])
    sys.exit(main(sys.argv[2:]))
