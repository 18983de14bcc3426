"""Several daemons on one machine: one process per core, each a member of the same group, and a parent over them.

    streamer run --workers 3 ─┬─ worker 0   http.port      kafka.group_instance_id-0
                              ├─ worker 1   http.port + 1  …-1
                              └─ worker 2   http.port + 2  …-2

A worker is `streamer run` and shares nothing with the others; Kafka divides the partitions. The parent holds no model
and touches no topic. It passes the first signal on, kills them at the second, starts a worker that ended again, and
ends with them.

    worker ended with 2 in its first life   settings or model: no other life will do better; all end, exit 2
    worker ended otherwise                  it is started again: after 1 s, or, when its last lives were shorter than a
                                            minute, after 2 s, 4 s, 8 s
    after the fifth such life in a row      all end, exit 1: whoever supervises the parent is to see it
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event, Thread

from streamer.errors import ConfigError
from streamer.logs import log
from streamer.settings import Settings

EXIT_OK, EXIT_FAILED, EXIT_REFUSED = 0, 1, 2
MOST = 256
HIGHEST_PORT = 65_535
SOUND_SECONDS = 60.0  # a worker that lived as long had no trouble starting
MOST_FAILURES = 5
PREDECESSOR_SECONDS = 60.0  # for a worker of a parent that was killed, which drains for 40 s at most, to free its port
WATCH_SECONDS = 0.1  # between looks at the workers


def of_worker(settings: Settings, number: int) -> Settings:
    """The settings of one worker: its own place in the group, and its own port."""
    name, port = settings.kafka.group_instance_id, settings.http.port
    kafka = settings.kafka.model_copy(update={"group_instance_id": f"{name}-{number}" if name else ""})
    http = settings.http.model_copy(update={"port": port + number if port else 0})
    return settings.model_copy(update={"kafka": kafka, "http": http})


def check_workers(settings: Settings, count: int) -> None:
    """Raises ConfigError where so many workers cannot be."""
    if not 1 <= count <= MOST:
        raise ConfigError(f"--workers: found {count}, expected 1 to {MOST}; one per core is enough")
    last = settings.http.port + count - 1
    if settings.http.port and last > HIGHEST_PORT:
        raise ConfigError(
            f"http.port: found {settings.http.port}, which makes {last} the port of the last of {count} workers, "
            f"expected at most {HIGHEST_PORT}; choose a lower one"
        )


def end_with_parent() -> None:
    """In a worker: stop as on SIGTERM when the parent is gone, whatever ended it.

    The parent holds the other end of standard input, and the system closes it.
    """

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=watch, name="parent", daemon=True).start()


@dataclass
class _Worker:
    """One worker's place: the process in it, None while it waits for its next start at `due`."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    lives: int = 0
    failures: int = 0  # lives in a row that were no sound ones


class Workers:
    """The parent of `count` workers.

    command              how the worker of a number is started
    first_delay_seconds  before a worker that ended is started again; doubled with every failure in a row
    monotonic            seconds that never go back
    """

    def __init__(
        self,
        count: int,
        command: Callable[[int], Sequence[str]],
        first_delay_seconds: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = [_Worker(number) for number in range(count)]
        self._command = command
        self._first_delay = first_delay_seconds
        self._monotonic = monotonic
        self._signals: list[int] = []  # all that came; the first `_passed` of them were passed on
        self._passed = 0
        self._arrived = Event()
        self._status = EXIT_OK

    def run(self) -> int:
        """Start them and watch them until they have ended; the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            while self._turn():
                if self._arrived.wait(WATCH_SECONDS):
                    self._pass_on()
        finally:
            for process in self._processes():
                process.kill()
        return self._status

    @property
    def _stopping(self) -> bool:
        return bool(self._signals) or self._status != EXIT_OK

    def _turn(self) -> bool:
        """Look at every worker; False when none is left."""
        now = self._monotonic()
        for worker in self._workers:
            if worker.process is not None and (code := worker.process.poll()) is not None:
                if worker.process.stdin is not None:
                    worker.process.stdin.close()
                worker.process = None
                self._ended(worker, code, now)
        if not self._stopping:
            for worker in self._workers:
                if worker.process is None and now >= worker.due:
                    self._start(worker, now)
        return not self._stopping or any(self._processes())

    def _start(self, worker: _Worker, now: float) -> None:
        # a session of its own: Ctrl-C on a terminal reaches the parent alone, which passes it on once
        command = self._command(worker.number)  # our own program with the flags we were given
        worker.process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603
        worker.started, worker.lives = now, worker.lives + 1
        log("worker_started", number=worker.number, pid=worker.process.pid)

    def _ended(self, worker: _Worker, code: int, now: float) -> None:
        lived = now - worker.started
        level = logging.INFO if code == EXIT_OK and self._stopping else logging.ERROR
        log("worker_ended", level, number=worker.number, exit=code, lived=lived)
        if self._signals:
            unstarted = code in (-signal.SIGTERM, -signal.SIGINT)  # before it had its handler: nothing to finish yet
            self._status = self._status if code == EXIT_OK or unstarted else EXIT_FAILED
        elif not self._stopping:
            worker.failures = 0 if lived >= SOUND_SECONDS else worker.failures + 1
            worker.due = now + self._first_delay * 2 ** max(0, worker.failures - 1)
            if code == EXIT_REFUSED and worker.lives == 1:
                self._end_all(EXIT_REFUSED)
            elif worker.failures == MOST_FAILURES:
                self._end_all(EXIT_FAILED)

    def _end_all(self, status: int) -> None:
        self._status = status
        for process in self._processes():
            process.send_signal(signal.SIGTERM)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals.append(number)
        self._arrived.set()

    def _pass_on(self) -> None:
        """Here and not in the handler, which might come while a worker is being started."""
        self._arrived.clear()
        while self._passed < len(self._signals):
            number = self._signals[self._passed]
            for process in self._processes():
                process.send_signal(signal.SIGKILL if self._passed else number)
            self._passed += 1
            log("signal_passed_on", signal=signal.Signals(number).name, workers=len(self._processes()))

    def _processes(self) -> list[subprocess.Popen[bytes]]:
        return [worker.process for worker in self._workers if worker.process is not None]


def worker_command(flags: Sequence[str], number: int) -> list[str]:
    """How `streamer run` is started as a worker; -P, since no module is taken from wherever the parent was started."""
    return [sys.executable, "-P", "-m", "streamer", "run", "--worker", str(number), *flags]
