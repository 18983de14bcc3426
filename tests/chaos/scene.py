"""One scenario: topics with a workload in them, daemons that come and go, and the verdict at the end."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from tests import models
from tests.chaos.feeding import Feeding, feeding
from tests.chaos.oracle import Lives, Verdict, expected_forecasts, judge
from tests.chaos.workload import STEP_MS, Workload, feed
from tests.integration.daemon import Streamer
from tests.integration.guard import Guard
from tests.integration.records import Record, create_topic, end_offsets, read_committed
from tests.integration.waiting import eventually

WARM_UP_STEPS = 2  # exactly the first forecast after a fresh start is marked not warm
FINISH_SECONDS = 600
LOOK_SECONDS = 0.1  # between questions for the committed positions
QUICK_GROUP: Mapping[str, Mapping[str, object]] = {  # a test need not wait half a minute
    "kafka-python": {"session_timeout_ms": 3_000, "heartbeat_interval_ms": 500},
    "confluent": {"session.timeout.ms": 3_000, "heartbeat.interval.ms": 500},
}


@dataclass
class Scene:
    """Topics, group and model of one scenario, and the processes it has started.

    bootstrap   where the daemons go
    client      their `kafka.client`
    more        settings of theirs
    eyes        where the scenario itself goes, if not there
    flags       settings that the uninterrupted run has as well
    watches     called while the scenario waits for its daemons
    """

    bootstrap: str
    folder: Path
    workload: Workload
    client: str = "kafka-python"
    replication: int = 1
    topic_settings: Mapping[str, object] = field(default_factory=dict)
    more: dict[str, object] = field(default_factory=dict)
    eyes: str = ""
    flags: Sequence[str] = ()
    watches: list[Callable[[], object]] = field(default_factory=list)
    processes: list[Streamer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.eyes = self.eyes or self.bootstrap
        partitions = self.workload.partitions
        self._guard = Guard(self.folder / "nothing")
        self._consumer: KafkaConsumer | None = None
        self._done, self._looked = 0, 0.0
        self._kept: dict[tuple[int, int], ConsumerRecord] = {}
        self.group = f"group-{uuid.uuid4().hex[:8]}"
        self.input = create_topic(self.eyes, "events", partitions, self.replication, self.topic_settings)
        self.output = create_topic(self.eyes, "forecasts", partitions, self.replication)
        self.changelog = f"{self.group}-{self.input}-changelog"
        self.model = self.folder / "model.onnx"
        models.save(models.gru(step_ms=STEP_MS, horizon=4, warmup_steps=WARM_UP_STEPS), self.model)

    @property
    def partitions(self) -> list[TopicPartition]:
        """The input's."""
        return [TopicPartition(self.input, number) for number in range(self.workload.partitions)]

    def feed(self, records: Sequence[Record] | None = None) -> None:
        """Append the workload, or these records."""
        feed(self.eyes, self.input, self.workload.records() if records is None else records)

    def streaming(self, records: Sequence[Record] | None = None) -> AbstractContextManager[Feeding]:
        """Append the workload, or these records, bit by bit in the background."""
        return feeding(self.eyes, self.input, self.workload.records() if records is None else records)

    def start(self, name: str = "a", failpoint: str = "", static: bool = True, **more: object) -> Streamer:
        """A daemon; `static` gives it a name in the group, so that its successor need not wait for the group."""
        settings: dict[str, object] = {
            **self.settings,
            "kafka.group_instance_id": name if static else "",
            **more,
        }
        program: tuple[str, ...] = ("streamer",)
        if failpoint:  # every batch is a transaction, so that any machine gets to the n-th one
            program = ("tests.chaos.failpoints", failpoint)
            settings["delivery.commit_interval_seconds"] = 0.001
        self.processes.append(Streamer(self.folder, settings, name, program))
        self._guard.watch(self.processes[-1].process.pid)
        for ended in (each.process for each in self.processes if each.process.poll() is not None):
            self._guard.forget(ended.pid)
        return self.processes[-1]

    @property
    def settings(self) -> dict[str, object]:
        """What all daemons of the scene, and commands beside them, have in common."""
        return {
            "model.path": str(self.model),
            "kafka.client": self.client,
            "kafka.bootstrap_servers": self.bootstrap,
            "kafka.group_id": self.group,
            "kafka.options": QUICK_GROUP[self.client],
            "input.topics": [self.input],
            "output.topic": self.output,
            "state.snapshot_interval_seconds": 1,
            **self.more,
        }

    def done(self) -> int:
        """Input records that are committed, as last seen: brokers may be away."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            try:
                self._done = sum(self.committed().values())
            except KafkaError:
                self._blink()
            self._looked = time.monotonic()
        return self._done

    def committed(self) -> dict[int, int]:
        """The group's committed offsets by partition number, 0 for none."""
        if self._consumer is None:  # it never polls, so it never joins
            self._consumer = KafkaConsumer(
                bootstrap_servers=self.eyes, group_id=self.group, enable_auto_commit=False,
                allow_auto_create_topics=False,
            )  # fmt: skip
        consumer = self._consumer
        return {tp.partition: consumer.committed(tp, timeout_ms=10_000) or 0 for tp in self.partitions}

    def await_done(self) -> None:
        """Until the group has committed all that is in the input now."""
        self._await_committed(sum(end_offsets(self.eyes, self.partitions).values()))

    def await_progress(self, feeding: Feeding) -> None:
        """Until more is committed than is in the input by now; AssertionError where nothing is left to come."""
        assert feeding.left, "the workload was over before the scenario was"
        self._await_committed(min(feeding.fed + 1, self.workload.events))

    def _await_committed(self, records: int) -> None:
        def done() -> bool:
            for watch in self.watches:
                watch()
            assert any(each.process.poll() is None for each in self.processes), self.processes[-1].log
            return self.done() >= records

        eventually(done, f"{records} records committed", FINISH_SECONDS)

    def configure(self, topic: str, settings: Mapping[str, object]) -> None:
        """Change settings of a topic, by their Kafka names."""
        changed = {name: str(value) for name, value in settings.items()}
        with KafkaAdminClient(bootstrap_servers=self.eyes) as admin:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, changed)])

    def inputs(self) -> list[ConsumerRecord]:
        """All that was ever seen in the input, by partition and offset: call it before anything is deleted."""
        self._kept |= {(r.partition, r.offset): r for r in read_committed(self.eyes, self.input)}
        return [self._kept[place] for place in sorted(self._kept)]

    def output_ends(self) -> dict[int, int]:
        """Where the output's partitions end."""
        partitions = [TopicPartition(self.output, tp.partition) for tp in self.partitions]
        return {tp.partition: end for tp, end in end_offsets(self.eyes, partitions).items()}

    def published(self, since: Mapping[int, int] | None = None) -> list[ConsumerRecord]:
        """What the output's readers see, by partition and offset, from these offsets on."""
        return [r for r in read_committed(self.eyes, self.output) if r.offset >= (since or {}).get(r.partition, 0)]

    def verdict(self, lives: Lives | None = None, since: Mapping[int, int] | None = None) -> Verdict:
        """What the readers see from these offsets on, held against uninterrupted runs."""
        return judge(self.published(since), expected_forecasts(self.inputs(), self.model, lives, self.flags))

    def close(self) -> None:
        """End every process."""
        self._blink()
        for process in self.processes:
            process.kill()
        self._guard.close()

    def _blink(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close(autocommit=False, timeout_ms=0)


@contextmanager
def scene(bootstrap: str, folder: Path, workload: Workload, **options: object) -> Iterator[Scene]:
    """A scene whose processes end with it."""
    made = Scene(bootstrap, folder, workload, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()
