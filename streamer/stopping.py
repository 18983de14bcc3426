"""How a process that serves is told to stop: by SIGTERM or SIGINT.

              first signal                        second signal
    daemon    what was advanced is committed, 0   ends at once
    worker    the same                            nothing new: ending at once is its parent's to do, with SIGKILL

A worker may be signalled twice when it is asked only once: systemd and others signal the parent and the workers, and
the parent passes on what it gets. And a worker that has this handler never ends by one of these signals.
"""

import signal
from collections.abc import Callable
from threading import Event


def stop_signal(has_started: Callable[[], bool], is_worker: bool) -> Event:
    """Set by the first signal; one that comes before there is anything to finish ends the process, with 0."""
    stop = Event()

    def on_signal(number: int, _frame: object) -> None:
        if not is_worker:
            signal.signal(number, signal.SIG_DFL)
        first = not stop.is_set()
        stop.set()
        if first and not has_started():
            raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop
