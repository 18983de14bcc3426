"""`streamer run` that notes how long each turn of its loop kept everything else waiting, and what took the time.

    python -m tests.benchmarks.timed_run TURNS.json run --config …

The clocks are put around the daemon's own parts from outside. A turn is counted without its poll, which waits for
events. The collector's own pauses are noted, too.
"""

import functools
import gc
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamer.__main__ import main
from streamer.checkpoint import Checkpoint
from streamer.committer import Committer
from streamer.core.engine import Engine
from streamer.daemon import Daemon
from streamer.reports import Reports
from streamer.restore import Restore

PARTS: dict[str, tuple[type, str]] = {
    "advance": (Engine, "advance"),
    "evict": (Engine, "evict"),
    "release": (Engine, "release"),
    "add": (Checkpoint, "add"),
    "cut": (Checkpoint, "cut"),
    "attempt": (Committer, "attempt"),
    "measure": (Reports, "dirty"),
    "restore": (Restore, "slice"),
}
LONGEST = 20


class Turns:
    """Seconds of every turn, and the parts of the longest ones."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = defaultdict(float)
        self.seconds: list[float] = []
        self.longest: list[tuple[float, float, dict[str, float]]] = []
        self._collecting = 0.0
        self._began = time.perf_counter()

    def timed(self, part: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def around(*arguments: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            try:
                return original(*arguments, **named)
            finally:
                self.parts[part] += time.perf_counter() - begin

        return around

    def turn(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def around(daemon: Any, *arguments: Any) -> Any:
            self.parts.clear()
            if "poll" not in vars(daemon._client):
                daemon._client.poll = self.timed("poll", daemon._client.poll)
            begin = time.perf_counter()
            result = original(daemon, *arguments)
            end = time.perf_counter()
            self.note(end - self._began, end - begin - self.parts.pop("poll", 0.0))
            return result

        return around

    def note(self, at: float, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.longest) < LONGEST or seconds > self.longest[-1][0]:
            self.longest = sorted([*self.longest, (seconds, at, dict(self.parts))], key=lambda t: -t[0])[:LONGEST]

    def collected(self, phase: str, _info: object) -> None:
        if phase == "start":
            self._collecting = time.perf_counter()
        else:
            self.parts["collector"] += time.perf_counter() - self._collecting


if __name__ == "__main__":
    turns = Turns()
    for name, (owner, method) in PARTS.items():
        setattr(owner, method, turns.timed(name, getattr(owner, method)))
    Daemon.turn = turns.turn(Daemon.turn)  # type: ignore[method-assign]
    gc.callbacks.append(turns.collected)
    status = main(sys.argv[2:])
    Path(sys.argv[1]).write_text(json.dumps({"seconds": turns.seconds, "longest": turns.longest}))
    sys.exit(status)
