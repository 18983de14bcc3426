"""What this user may do, against the least that exactly-once delivery needs."""

from collections.abc import Iterator

from streamer.doctor.facts import GroupFacts, KafkaFacts, Names
from streamer.doctor.findings import Finding, fail, ok, warn

INPUT, OUTPUT, CHANGELOG = ("DESCRIBE", "READ"), ("DESCRIBE", "WRITE"), ("DESCRIBE", "READ", "WRITE")
GROUP, TRANSACTIONAL = ("DESCRIBE", "READ"), ("DESCRIBE", "WRITE")
ACL_NAMES = {"DESCRIBE": "Describe", "READ": "Read", "WRITE": "Write", "CREATE": "Create"}


def check_permissions(names: Names, kafka: KafkaFacts, group_id: str) -> Iterator[Finding]:
    """Every operation the daemon needs. IdempotentWrite is not among them: its producer is transactional."""
    if kafka.cluster.authorizer is False:
        yield ok("permissions", "the cluster has no authorizer: every user may do everything")
        return
    needs: dict[str, tuple[str, ...]] = {**dict.fromkeys(names.inputs, INPUT), names.output: OUTPUT}
    needs |= {names.dead_letters: OUTPUT} if names.dead_letters else {}
    needs |= dict.fromkeys(names.changelogs.values(), CHANGELOG)
    for name, needed in needs.items():
        topic = kafka.topic(name)
        if topic.refused:
            yield _judged(f"topic {name}", needed, frozenset(), f"--topic {name}")
        elif topic.partitions:
            yield _judged(f"topic {name}", needed, topic.operations, f"--topic {name}")
        elif name in names.changelogs.values():
            yield from _creation(name, kafka)
    yield from _group(kafka.group, group_id)


def _creation(name: str, kafka: KafkaFacts) -> Iterator[Finding]:
    granted = kafka.cluster.operations
    if granted is not None and "CREATE" not in granted:
        yield warn(
            f"permission on topic {name}",
            "it does not exist, and this user may not create topics in the cluster at large",
            _grant(("CREATE",), f"--topic {name}") + ", or create it (docs/operations.md has its settings)",
        )


def _group(group: GroupFacts, group_id: str) -> Iterator[Finding]:
    granted = frozenset() if group.refused else group.operations
    yield _judged(f"group {group_id}", GROUP, granted, f"--group {group_id}")
    named = group.transactional_id
    prefix = f"--transactional-id {group_id}- --resource-pattern-type prefixed"
    yield _judged(f"transactional id {named}", TRANSACTIONAL, group.transactional, prefix)


def _judged(what: str, needed: tuple[str, ...], granted: frozenset[str] | None, resource: str) -> Finding:
    subject = f"permission on {what}"
    wanted = ", ".join(ACL_NAMES[operation] for operation in needed)
    if granted is None:
        found = f"{wanted} are needed; the brokers do not say what this user may do"
        return warn(subject, found, "see docs/operations.md")
    missing = tuple(operation for operation in needed if operation not in granted)
    if missing:
        lacking = ", ".join(ACL_NAMES[operation] for operation in missing)
        return fail(subject, f"expected {wanted}; {lacking} is not granted", _grant(missing, resource))
    return ok(subject, wanted)


def _grant(operations: tuple[str, ...], resource: str) -> str:
    each = " ".join(f"--operation {ACL_NAMES[operation]}" for operation in operations)
    return f"`kafka-acls.sh --add --allow-principal User:… {each} {resource}`"
