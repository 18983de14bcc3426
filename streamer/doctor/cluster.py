"""The brokers: new enough, and with time limits that the daemon's own fit into."""

from collections.abc import Iterator
from itertools import pairwise

from streamer.doctor.facts import ClusterFacts, KafkaFacts, Names, TimeLimits
from streamer.doctor.findings import Finding, duration, fail, ok, warn

RESTORED_PER_SECOND = 10_000  # snapshots and events, a cautious guess
LONGEST_PAUSE_MS = 7 * 86_400_000.0  # of a group, that positions should outlast: what Kafka keeps them by itself
MARGIN = 5  # the retention of tombstones over the restore


def check_versions(cluster: ClusterFacts, bootstrap: str) -> Iterator[Finding]:
    """Brokers that let a group's positions into transactions."""
    version = ".".join(map(str, cluster.version))
    found = f"{cluster.brokers} brokers at {bootstrap}, protocol of Kafka {version} or later"
    if cluster.group_transactions and cluster.fenced:
        yield warn("brokers", f"{found}; {cluster.fenced} more are known but do not serve", "bring them back")
    elif cluster.group_transactions:
        yield ok("brokers", found)
    else:
        yield fail("brokers", f"{found}, which lacks transactions with group metadata", "update to Kafka 2.5 or later")


def check_limits(limits: TimeLimits, cluster: ClusterFacts) -> Iterator[Finding]:
    """Transaction below session below poll interval, and all of them within what the brokers allow."""
    ordered = {
        "transaction.timeout.ms": limits.transaction_ms,
        "session.timeout.ms": limits.session_ms,
        "max.poll.interval.ms": limits.poll_ms,
    }
    subject = "time limits"
    wrong = [(low, high) for low, high in pairwise(ordered) if ordered[low] >= ordered[high]]
    for low, high in wrong:
        yield fail(
            subject,
            f"expected {low} below {high}, found {duration(ordered[low])} and {duration(ordered[high])}: a partition "
            "may be handed on while its transaction is still open",
            f"remove {high.replace('.', '_')} from kafka.options, or raise it",
        )
    if not wrong:
        yield ok(subject, " < ".join(f"{name} {duration(ms)}" for name, ms in ordered.items()))
    if limits.heartbeat_ms * 3 > limits.session_ms:
        yield warn(
            subject,
            f"heartbeat.interval.ms is {duration(limits.heartbeat_ms)}, more than a third of session.timeout.ms: "
            "one lost heartbeat may cost the partitions",
            "remove heartbeat_interval_ms from kafka.options",
        )
    yield from _allowed(limits, cluster)


def _allowed(limits: TimeLimits, cluster: ClusterFacts) -> Iterator[Finding]:
    subject = "time limits of the brokers"
    if not cluster.settings:
        yield warn(
            subject,
            "may not be seen",
            "`kafka-acls.sh --add --allow-principal User:… --operation DescribeConfigs --cluster`, or ask whether they "
            f"allow a session of {duration(limits.session_ms)}",
        )
        return
    least, most = cluster.number("group.min.session.timeout.ms"), cluster.number("group.max.session.timeout.ms")
    longest = cluster.number("transaction.max.timeout.ms")
    good = True
    if least is not None and most is not None and not least <= limits.session_ms <= most:
        good = False
        yield fail(
            subject,
            f"session.timeout.ms is {duration(limits.session_ms)}, they allow {duration(least)} to {duration(most)}",
            "set kafka.options.session_timeout_ms between, or change group.{min,max}.session.timeout.ms",
        )
    if longest is not None and limits.transaction_ms > longest:
        good = False
        yield fail(
            subject,
            f"transaction.timeout.ms is {duration(limits.transaction_ms)}, they allow {duration(longest)}",
            "raise transaction.max.timeout.ms",
        )
    if good:
        yield ok(subject, "allow these")


def check_offsets_retention(names: Names, cluster: ClusterFacts, kafka: KafkaFacts) -> Iterator[Finding]:
    """A group that is down keeps its positions as long as its input is kept."""
    minutes = cluster.number("offsets.retention.minutes")
    kept = [kafka.topic(name).number("retention.ms") for name in names.inputs]
    longest = max((ms if ms >= 0 else float("inf") for ms in kept if ms is not None), default=None)
    if minutes is None or longest is None:
        return
    subject, found = "retention of positions", f"offsets.retention.minutes is {duration(minutes * 60_000)}"
    if minutes * 60_000 < min(longest, LONGEST_PAUSE_MS):
        kept_for = "for ever" if longest == float("inf") else duration(longest)
        yield warn(
            subject,
            f"{found}, and the input is kept {kept_for}: a group that is down for longer loses its positions, and "
            "begins at input.start with snapshots that do not fit",
            f"raise it to {duration(min(longest, LONGEST_PAUSE_MS))}, or run `streamer state reset` after such a pause",
        )
    else:
        yield ok(subject, f"{found} of a group that is down")


def check_restore(names: Names, kafka: KafkaFacts) -> Iterator[Finding]:
    """How much a restart has to read, and that no tombstone goes while it does."""
    for input_, name in names.changelogs.items():
        topic = kafka.topic(name)
        retention = topic.number("delete.retention.ms")
        if not topic.end or retention is None:
            continue
        most = max((end - topic.begin.get(number, 0) for number, end in topic.end.items()), default=0)
        ms = 1000 * most / RESTORED_PER_SECOND
        found = (
            f"its fullest partition holds {most:,} records, about {duration(max(ms, 1000))} to read; "
            f"delete.retention.ms is {duration(retention)}"
        )
        if ms * MARGIN > retention:
            yield fail(
                f"restore from {name}", found, f"raise delete.retention.ms of the changelog of {input_} far above it"
            )
        else:
            yield ok(f"restore from {name}", found)
