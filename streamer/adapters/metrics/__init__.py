"""What an operator can measure: Prometheus metrics of one process, in a registry of their own.

The daemon says what happened (`delivery.committed`, `state.restored`, …) and this package knows which numbers that
moves: one module for each subject. No label names a stream: their number is not bounded. `docs/metrics.md` lists
every metric.
"""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, disable_created_metrics

from streamer.adapters.metrics.assignment import AssignmentMetrics
from streamer.adapters.metrics.delivery import DeliveryMetrics
from streamer.adapters.metrics.events import EventMetrics
from streamer.adapters.metrics.model import ModelMetrics
from streamer.adapters.metrics.process import ProcessMetrics
from streamer.adapters.metrics.state import StateMetrics


class Metrics:
    """Every metric of one process, by subject.

    clock         seconds that never go back, for the time since the loop's last progress
    max_streams   the most streams that may be held
    memory_bytes  the memory that this process may use
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, max_streams: int = 0, memory_bytes: int = 0
    ) -> None:
        # a second series for every counter, saying when this process first counted, would help nobody
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.events = EventMetrics(self.registry)
        self.model = ModelMetrics(self.registry)
        self.delivery = DeliveryMetrics(self.registry)
        self.assignment = AssignmentMetrics(self.registry)
        self.state = StateMetrics(self.registry, max_streams)
        self.process = ProcessMetrics(self.registry, clock, memory_bytes)
