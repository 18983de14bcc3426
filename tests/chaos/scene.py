"""One scenario: topics with a workload in them, daemons that come and go, and the verdict at the end."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from kafka.errors import KafkaError

from streamer.adapters.onnx_session import OnnxModel
from tests import models
from tests.chaos.oracle import Verdict, judge
from tests.chaos.workload import STEP_MS, Workload, feed
from tests.integration.daemon import Streamer
from tests.integration.records import Record, committed_offsets, create_topic
from tests.integration.waiting import eventually

FINISH_SECONDS = 600
QUICK_GROUP = {"session_timeout_ms": 3_000, "heartbeat_interval_ms": 500}  # a test need not wait half a minute


@dataclass
class Scene:
    """Topics, group and model of one scenario, and the processes it has started."""

    bootstrap: str
    folder: Path
    workload: Workload
    replication: int = 1
    topic_settings: Mapping[str, object] = field(default_factory=dict)
    more: dict[str, object] = field(default_factory=dict)
    processes: list[Streamer] = field(default_factory=list)

    def __post_init__(self) -> None:
        partitions = self.workload.partitions
        self._done = 0
        self.group = f"group-{uuid.uuid4().hex[:8]}"
        self.input = create_topic(self.bootstrap, "events", partitions, self.replication, self.topic_settings)
        self.output = create_topic(self.bootstrap, "forecasts", partitions, self.replication)
        self.model = self.folder / "model.onnx"
        models.save(models.gru(step_ms=STEP_MS, horizon=4), self.model)

    def feed(self, records: Sequence[Record] | None = None) -> None:
        """Append the workload, or these records."""
        feed(self.bootstrap, self.input, self.workload.records() if records is None else records)

    def start(self, name: str = "a", failpoint: str = "", static: bool = True) -> Streamer:
        """A daemon; `static` gives it a name in the group, so that its successor need not wait for the group."""
        settings: dict[str, object] = {
            "model.path": str(self.model),
            "kafka.bootstrap_servers": self.bootstrap,
            "kafka.group_id": self.group,
            "kafka.group_instance_id": name if static else "",
            "kafka.options": QUICK_GROUP,
            "input.topics": [self.input],
            "output.topic": self.output,
            "state.snapshot_interval_seconds": 1,
            **self.more,
        }
        program: tuple[str, ...] = ("streamer",)
        if failpoint:  # every batch is a transaction, so that any machine gets to the n-th one
            program = ("tests.chaos.failpoints", failpoint)
            settings["delivery.commit_interval_seconds"] = 0.001
        self.processes.append(Streamer(self.folder, settings, name, program))
        return self.processes[-1]

    def done(self) -> int:
        """Input records that are committed, as last seen: brokers may be away."""
        with suppress(KafkaError):
            self._done = sum(committed_offsets(self.bootstrap, self.group, self.input).values())
        return self._done

    def await_done(self, records: int | None = None) -> None:
        """Until so many input records are committed, by default all."""
        wanted = self.workload.events if records is None else records
        eventually(lambda: self.done() >= wanted, f"{wanted} records committed", FINISH_SECONDS)

    def verdict(self, **events: object) -> Verdict:
        """What the readers see, held against one uninterrupted run."""
        return judge(self.bootstrap, self.input, self.output, OnnxModel(self.model), **events)

    def close(self) -> None:
        """End every process."""
        for process in self.processes:
            process.kill()


@contextmanager
def scene(bootstrap: str, folder: Path, workload: Workload, **options: object) -> Iterator[Scene]:
    """A scene whose processes end with it."""
    made = Scene(bootstrap, folder, workload, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()
