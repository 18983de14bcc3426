"""`streamer run` that kills itself with SIGKILL at a chosen point, the n-th time it gets there.

    python -m tests.chaos.failpoints before-commit:3 run --config …

The points are put around the daemon's own parts from outside; the daemon knows nothing of them.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from kafka import KafkaProducer

from streamer import daemon
from streamer.__main__ import main
from streamer.adapters.kafka_python import KafkaPythonClient
from streamer.adapters.kafka_python.producer import TransactionalProducer
from streamer.adapters.onnx_session import OnnxModel
from streamer.daemon import Daemon
from streamer.restore import Restore

# point: the method, and whether it dies before or after it
POINTS: dict[str, tuple[type, str, str]] = {
    "after-poll": (KafkaPythonClient, "poll", "after"),
    "mid-block": (OnnxModel, "advance", "after"),
    "after-produce": (KafkaProducer, "send", "after"),
    "before-offsets": (TransactionalProducer, "send_offsets", "before"),
    "before-commit": (TransactionalProducer, "ask_to_commit", "before"),
    "mid-commit": (TransactionalProducer, "ask_to_commit", "after"),
    "after-commit": (TransactionalProducer, "await_commit", "after"),
    "during-restore": (Restore, "slice", "after"),
    "during-revoke": (Daemon, "_on_revoke", "before"),
}


def arm(point: str, times: int) -> None:
    """Die at the point when it is reached for the n-th time."""
    owner, name, when = POINTS[point]
    original: Callable[..., Any] = getattr(owner, name)
    left = times

    def reached() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(original)
    def around(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            reached()
        result = original(*arguments, **named)
        if when == "after" and (name != "poll" or result):  # an empty poll is no point worth dying at
            reached()
        return result

    setattr(owner, name, around)


if __name__ == "__main__":
    daemon.MAX_BATCH_RECORDS = 500  # many small batches: more places to die at
    where, _, count = sys.argv[1].partition(":")
    arm(where, int(count or 1))
    sys.exit(main(sys.argv[2:]))
