"""The topics: there, of matching partitions, copied, and the changelogs set up to be compacted."""

from collections.abc import Iterator
from dataclasses import replace

from streamer.doctor.facts import KafkaFacts, Names, TopicFacts
from streamer.doctor.findings import Finding, duration, fail, ok, warn
from streamer.restore import LIMIT_SECONDS

HOUR_MS = 3_600_000
LEAST_DELETE_RETENTION_MS = int(4 * LIMIT_SECONDS * 1000)  # far above what a restore may take
CHANGELOG_LIMITS = {  # what `streamer run` creates them with; more makes restores longer
    "segment.bytes": 64 * 2**20,
    "min.cleanable.dirty.ratio": 0.2,
    "max.compaction.lag.ms": 10 * 60_000,
}


def check_existence(names: Names, kafka: KafkaFacts) -> Iterator[Finding]:
    """Input, output and dead letters must be there; changelogs are created."""
    for name, setting in names.settings.items():
        topic = kafka.topic(name)
        if topic.refused:
            yield fail(f"topic {name}", f"it cannot be described ({topic.refused})", _grant("Describe", name))
        elif not topic.partitions:
            yield fail(f"topic {name}", f"does not exist, {setting} names it", "create it: `streamer topics create`")
        elif topic.headless:
            yield fail(f"topic {name}", f"{topic.headless} of its partitions have no leader", "bring its brokers back")
        else:
            yield ok(f"topic {name}", f"exists, {topic.partitions} partitions ({setting})")
    for name in names.changelogs.values():
        topic = kafka.topic(name)
        if topic.refused:
            yield fail(f"topic {name}", f"it cannot be described ({topic.refused})", _grant("Describe", name))
        elif topic.partitions:
            yield ok(f"topic {name}", f"exists, {topic.partitions} partitions (changelog)")
        else:
            yield ok(f"topic {name}", "does not exist yet", "`streamer run` creates it")


def check_partitions(names: Names, kafka: KafkaFacts) -> Iterator[Finding]:
    """Forecasts and dead letters go to the event's own partition number, snapshots too."""
    wide = max(names.inputs, key=lambda name: kafka.topic(name).partitions)
    needed = kafka.topic(wide).partitions
    for name in filter(None, (names.output, names.dead_letters)):
        found = kafka.topic(name).partitions
        if 0 < found < needed:
            yield fail(
                f"partitions of {name}",
                f"expected at least the {needed} of input {wide}, found {found}",
                f"`kafka-topics.sh --alter --topic {name} --partitions {needed}`",
            )
        elif found:
            yield ok(f"partitions of {name}", f"{found}, at least the {needed} of the input")
    for input_, name in names.changelogs.items():
        expected, found = kafka.topic(input_).partitions, kafka.topic(name).partitions
        if found and expected and found != expected:
            yield fail(
                f"partitions of {name}",
                f"expected the {expected} of input {input_}, found {found}: its states belong to other streams",
                "delete the changelog to start afresh, or take another kafka.group_id",
            )
        elif found:
            yield ok(f"partitions of {name}", f"{found}, as the input has")


def check_changelog(name: str, topic: TopicFacts) -> Iterator[Finding]:
    """Compacted, never cut by age, and cleaned often enough for restores to be short."""
    if not topic.partitions:
        return
    subject = f"settings of {name}"
    if not topic.settings:
        yield warn(subject, "may not be seen", _grant("DescribeConfigs", name))
        return
    alter = f"`kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config"
    policy = topic.settings.get("cleanup.policy", "")
    good = policy == "compact"
    if not good:
        lost = "it deletes snapshots by age" if "delete" in policy else "it keeps every snapshot ever written"
        found = f"expected cleanup.policy=compact, found {policy!r}: {lost}"
        yield fail(subject, found, f"{alter} cleanup.policy=compact`")
    for setting, limit in CHANGELOG_LIMITS.items():
        set_to = float(topic.settings.get(setting, limit))
        if set_to > limit:
            good = False
            yield warn(
                subject,
                f"expected {setting} {limit:,} or less, found {set_to:,.15g}: restores read more old snapshots",
                f"{alter} {setting}={limit}`",
            )
    retention = topic.number("delete.retention.ms")
    if retention is not None and retention < LEAST_DELETE_RETENTION_MS:
        good = False
        yield fail(
            subject,
            f"expected delete.retention.ms of at least {duration(LEAST_DELETE_RETENTION_MS)}, found "
            f"{duration(retention)}: a restore may miss tombstones, and bring forgotten streams back",
            f"{alter} delete.retention.ms={24 * HOUR_MS}`",
        )
    if good:
        yield ok(subject, f"compacted, delete.retention.ms {duration(retention or 0)}")


def check_copies(names: Names, kafka: KafkaFacts) -> Iterator[Finding]:
    """A topic that survives the loss of a broker, and one that can be written at all."""
    roles = {**names.settings, **dict.fromkeys(names.changelogs.values(), "changelog")}
    alike: dict[Finding, list[str]] = {}
    for name in [*roles, "__consumer_offsets", "__transaction_state"]:
        topic = kafka.topic(name)
        if topic.partitions:
            alike.setdefault(_copies(topic), []).append(name)
    for finding, topics in alike.items():
        yield replace(finding, subject=f"{finding.subject} of {', '.join(topics)}")


def _copies(topic: TopicFacts) -> Finding:
    subject = "copies"
    needed = topic.number("min.insync.replicas")
    if needed is not None and needed > topic.copies:
        return fail(
            subject,
            f"min.insync.replicas is {needed}, but there are {topic.copies} copies: every write is refused",
            "lower min.insync.replicas, or add copies with `kafka-reassign-partitions.sh`",
        )
    if needed is not None and topic.in_sync < needed:
        return fail(
            subject,
            f"{topic.in_sync} of {topic.copies} copies are in sync, writing needs {needed}",
            "bring the brokers that hold the others back",
        )
    if topic.copies == 1:
        return warn(
            subject,
            "1: the loss of its broker loses the topic, and what the daemon promised with it",
            "3 copies and min.insync.replicas 2 for production",
        )
    if needed == 1:
        return warn(
            subject,
            f"{topic.copies}, but min.insync.replicas is 1: a write may be confirmed that only one broker has",
            "set min.insync.replicas to 2",
        )
    said = "min.insync.replicas may not be seen" if needed is None else f"min.insync.replicas {needed}"
    return ok(subject, f"{topic.copies}, {topic.in_sync} in sync, {said}")


def _grant(operation: str, topic: str) -> str:
    return f"`kafka-acls.sh --add --allow-principal User:… --operation {operation} --topic {topic}`"
