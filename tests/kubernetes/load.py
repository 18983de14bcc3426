"""Events that keep coming, at a rate, while the cluster is being disturbed."""

import threading
import time
from collections.abc import Sequence
from contextlib import closing

from kafka import KafkaProducer

from tests.integration.records import Record

TICK_SECONDS = 0.05


class Feeder:
    """Appends records in a thread of its own from `start` until `stop`; AssertionError there if it ran out of them."""

    def __init__(self, bootstrap: str, topic: str, records: Sequence[Record], per_second: float) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._records = records
        self._per_second = per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder")
        self.fed = 0
        self._failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> int:
        """End the flow; how many records there are."""
        self._stop.set()
        self._thread.join()
        if self._failure:
            raise self._failure
        assert self.fed < len(self._records), f"all {self.fed} records were fed before the end; have more of them"
        return self.fed

    def _run(self) -> None:
        try:
            with closing(KafkaProducer(bootstrap_servers=self._bootstrap, allow_auto_create_topics=False)) as producer:
                begun = time.monotonic()
                while not self._stop.wait(TICK_SECONDS):
                    due = min(int((time.monotonic() - begun) * self._per_second), len(self._records))
                    futures = [
                        producer.send(self._topic, r.value, r.key, partition=r.partition)
                        for r in self._records[self.fed : due]
                    ]
                    for future in futures:
                        future.get(timeout=60)
                    self.fed = max(self.fed, due)
        except BaseException as problem:  # told by `stop`
            self._failure = problem
