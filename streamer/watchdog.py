"""Ends a process whose loop has stopped turning.

Every wait of the loop has a limit, so a loop that does not turn is stuck in something that nobody foresaw, and only a
new process helps. It goes on from the last commit. Brokers that are away do not stop the loop: it turns, and waits.
"""

import faulthandler
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from streamer.logs import log

EXIT_STUCK = 1
LIMIT_SECONDS = 180.0  # three times what makes /healthz fail, so that whoever looks at that comes first
LOOK_SECONDS = 5.0
LOOKS = 3  # in a row: a process that was itself stopped for long finds an old time when it wakes, and then turns


class Watchdog:
    """Looks at the loop from a thread of its own.

    idle  seconds since the loop last turned
    end   ends the process, whatever its other threads do
    """

    def __init__(self, idle: Callable[[], float], end: Callable[[float], None]) -> None:
        self._idle = idle
        self._end = end
        self._looks = 0

    def look(self) -> None:
        """Once every `LOOK_SECONDS`."""
        idle = self._idle()
        self._looks = self._looks + 1 if idle > LIMIT_SECONDS else 0
        if self._looks >= LOOKS:
            self._end(idle)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look until the end of the block."""
        over = Event()

        def watch() -> None:
            while not over.wait(LOOK_SECONDS):
                self.look()

        thread = Thread(target=watch, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def end_process(idle: float) -> None:
    """Say where every thread is, and end at once: a stuck thread would keep an orderly end from coming."""
    log("stuck", logging.ERROR, seconds=idle, remedy="the stacks follow; the next run goes on from the last commit")
    faulthandler.dump_traceback(sys.__stderr__ or 2)
    os._exit(EXIT_STUCK)
