"""`streamer run` as a process of its own, configured by its environment as an operator would."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.integration.broker import free_ports
from tests.integration.waiting import eventually

EXIT_SECONDS = 180  # a machine that does much else at once still takes its time to start a process
START_SECONDS = 120  # for the brokers' first answer there


class Streamer:
    """A running daemon.

    program    the module to run, and its own arguments
    arguments  of `run`
    log        what it and earlier ones of its name wrote to standard error
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, object],
        name: str = "streamer",
        program: Sequence[str] = ("streamer",),
        arguments: Sequence[str] = (),
    ) -> None:
        self.name = name
        (self.port,) = free_ports(1)
        self._log = folder / f"{name}.log"
        given = {"http.port": self.port, "kafka.connect_timeout_seconds": START_SECONDS, **settings}
        environ = {k: v for k, v in os.environ.items() if not k.startswith("STREAMER_")}
        environ |= {
            "STREAMER_" + name.upper().replace(".", "__"): value if isinstance(value, str) else json.dumps(value)
            for name, value in given.items()
        }
        command = [sys.executable, "-m", *program, "run", *arguments]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environ, stderr=log)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def get(self, path: str, port: int | None = None) -> str | None:
        """A page of its HTTP server, or of the one at another port of its own; None while it does not answer well."""
        assert self.process.poll() is None, self.log
        try:
            with urlopen(f"http://127.0.0.1:{port or self.port}{path}", timeout=10) as page:
                return page.read().decode()
        except (URLError, ConnectionError):
            return None

    def metric(self, name: str) -> float:
        """A metric's value, labels included in the name; 0 while there is none."""
        return self.metrics(name)[0]

    def metrics(self, *names: str) -> list[float]:
        """Metrics' values at one moment."""
        lines = (self.get("/metrics") or "").splitlines()
        told = dict(line.rsplit(" ", 1) for line in lines)
        return [float(told.get(name, 0.0)) for name in names]

    def await_ready(self) -> None:
        eventually(lambda: self.get("/readyz"), "the daemon is ready")

    def await_consumed(self, records: int) -> None:
        """Until so many records were read and nothing waits to be committed."""
        eventually(
            lambda: self.metric("streamer_records_consumed_total") >= records, f"{records} records consumed", 120
        )

    def kill(self) -> None:
        """End it at once, as if the power failed."""
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(EXIT_SECONDS)


@contextmanager
def running(folder: Path, settings: Mapping[str, object], name: str = "streamer") -> Iterator[Streamer]:
    """A daemon that is killed at the end if the test did not stop it."""
    streamer = Streamer(folder, settings, name)
    try:
        yield streamer
    finally:
        streamer.kill()


def exit_of(folder: Path, settings: Mapping[str, object]) -> tuple[int, str]:
    """The exit status and messages of a daemon that should not start."""
    with running(folder, settings) as streamer:
        return streamer.process.wait(EXIT_SECONDS), streamer.log
