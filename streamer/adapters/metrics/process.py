"""The process itself: its versions, its memory, and whether its loop turns."""

import platform
from collections.abc import Callable

import onnxruntime
from prometheus_client import CollectorRegistry, Gauge, Info, ProcessCollector

import streamer


class ProcessMetrics:
    """What runs, what it may use, and when it last made progress.

    clock         seconds that never go back
    memory_bytes  what this process may use
    """

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float], memory_bytes: int) -> None:
        self._clock = clock
        self._last_turn = self._last_progress = clock()
        ProcessCollector(registry=registry)
        Gauge(
            "streamer_memory_limit_bytes",
            "Memory this process may use: its container's limit, or the machine's.",
            registry=registry,
        ).set(memory_bytes)
        since = Gauge(
            "streamer_since_progress_seconds",
            "Time since something was committed or restored, or there was nothing to do.",
            registry=registry,
        )
        since.set_function(self.seconds_since_progress)
        turn = Gauge(
            "streamer_since_turn_seconds", "Time since the loop last turned, whatever came of it.", registry=registry
        )
        turn.set_function(self.seconds_since_turn)
        Info("streamer_build", "Versions of this process.", registry=registry).info(
            {
                "version": streamer.__version__,
                "python": platform.python_version(),
                "onnxruntime": onnxruntime.__version__,
            }
        )

    def turned(self) -> None:
        """The loop turned, or an attempt or a model call in it ended."""
        self._last_turn = self._clock()

    def seconds_since_turn(self) -> float:
        """Seconds since the loop last turned."""
        return self._clock() - self._last_turn

    def progressed(self) -> None:
        """Something was committed or restored, or there was nothing to do."""
        self._last_progress = self._clock()

    def seconds_since_progress(self) -> float:
        """Seconds since something was committed or restored, or there was nothing to do."""
        return self._clock() - self._last_progress
