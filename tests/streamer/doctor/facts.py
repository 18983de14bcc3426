"""Facts of a set-up without a fault, made by hand, and ways to break one thing of it."""

from dataclasses import replace

from streamer.core.events import Partition
from streamer.delivery import Position
from streamer.doctor.facts import (
    ClusterFacts,
    GroupFacts,
    KafkaFacts,
    ModelFacts,
    Names,
    SampleFacts,
    TimeLimits,
    TopicFacts,
)
from streamer.settings import InputSettings

ALL = frozenset({"READ", "WRITE", "DESCRIBE", "CREATE"})
NAMES = Names(["events"], "forecasts", "rejected", {"events": "g-events-changelog"})
PLAIN = {
    "cleanup.policy": "delete",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "min.insync.replicas": "2",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
}
COMPACTED = {
    **PLAIN,
    "cleanup.policy": "compact",
    "delete.retention.ms": "86400000",
    "max.compaction.lag.ms": "600000",
    "min.cleanable.dirty.ratio": "0.2",
    "segment.bytes": "67108864",
}
TOPIC = TopicFacts(
    partitions=2, copies=3, in_sync=3, settings=PLAIN, operations=ALL, begin={0: 0, 1: 0}, end={0: 100, 1: 50}
)
CHANGELOG = replace(TOPIC, settings=COMPACTED)
BROKER = {
    "group.min.session.timeout.ms": "6000",
    "group.max.session.timeout.ms": "1800000",
    "transaction.max.timeout.ms": "900000",
    "offsets.retention.minutes": "10080",
}
CLUSTER = ClusterFacts(3, 0, (4, 0), True, BROKER, ALL, True)
OURS = {Partition("events", 0): Position(100, "tc1;lwm=90"), Partition("events", 1): Position(40, "tc1;lwm=40")}
GROUP = GroupFacts("", (), OURS, ALL, "g-doctor", frozenset({"DESCRIBE", "WRITE"}))
TOPICS = {"events": TOPIC, "forecasts": TOPIC, "rejected": TOPIC, "g-events-changelog": CHANGELOG}
GOOD = KafkaFacts(CLUSTER, TOPICS, GROUP)
MODEL = ModelFacts("gru@1", "ab" * 32, ("CPUExecutionProvider",), 1000, 1200, 3000)
LIMITS = TimeLimits(10_000, 30_000, 3_000, 60_000)
SAMPLE = SampleFacts(
    records=1000,
    bytes=80_000,
    seen_in={"a": [Partition("events", 0)], "b": [Partition("events", 1)]},
    spans={Partition("events", 0): (500, 1000), Partition("events", 1): (500, 2000)},
)
INPUT = InputSettings(topics=("events",))


def with_topic(name, kafka=GOOD, **changes):
    """The good facts, but for one topic."""
    return replace(kafka, topics={**kafka.topics, name: replace(kafka.topic(name), **changes)})


def with_setting(name, setting, value):
    return with_topic(name, settings={**GOOD.topic(name).settings, setting: value})


def levels(findings):
    return {finding.level.value for finding in findings}


def only(findings, level):
    """The one finding of a level, as it is printed."""
    (found,) = [str(finding) for finding in findings if finding.level.value == level]
    return found
