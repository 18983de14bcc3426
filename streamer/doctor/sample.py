"""The recent input, as the daemon would decode it: streams in two partitions, and what is rejected."""

from collections.abc import Iterator

from streamer.core.events import REASONS
from streamer.doctor.facts import Names, SampleFacts
from streamer.doctor.findings import Finding, fail, ok, warn

NAMED = 3  # streams named of those that are wrong
MOST_REJECTED = 0.01


def check_sample(names: Names, sample: SampleFacts) -> Iterator[Finding]:
    """How much of the recent input could be used; above all whether `input.fields` is right."""
    subject = "recent input"
    if sample.problem:
        found = f"not all of it was read: {sample.problem}"
        yield warn(subject, found, "mend what is said above, or try again")
    if not sample.records:
        yield ok(subject, f"no records in {', '.join(names.inputs)} yet")
        return
    rejected = sum(sample.rejected.values())
    found = f"{sample.records:,} records read, {len(sample.seen_in):,} streams, {rejected:,} records rejected"
    if not rejected:
        yield ok(subject, found)
        return
    for reason, count in sorted(sample.rejected.items(), key=lambda item: -item[1]):
        said = f"{found}, {count / sample.records:.1%} as {reason}: {sample.examples[reason]} ({REASONS[reason]})"
        if rejected == sample.records:
            yield fail(subject, said, "does input.fields describe these records?")
        elif count > MOST_REJECTED * sample.records:
            yield warn(subject, said, "check input.fields, and whoever produces these")
        else:
            yield ok(subject, said)


def check_identity(sample: SampleFacts) -> Iterator[Finding]:
    """A stream is an id in one partition; in two of them it is two streams, each with half of the events."""
    twice: dict[str, list[str]] = {}
    for stream, partitions in sample.seen_in.items():
        topics = [topic for topic, _ in partitions]
        if len(set(topics)) < len(topics):
            twice[stream] = [f"{topic}-{number}" for topic, number in sorted(partitions)]
    subject = "streams in two partitions"
    if twice:
        named = ", ".join(f"{stream!r} in {' and '.join(places)}" for stream, places in list(twice.items())[:NAMED])
        yield warn(
            subject,
            f"{len(twice):,} of {len(sample.seen_in):,} ids: {named}; each is forecast as two streams, from a part of "
            "its events each",
            "produce each stream with its id as the record's key and one partitioner, and never add partitions to a "
            "topic in use",
        )
    elif sample.records:
        yield ok(subject, f"none among {len(sample.seen_in):,} recent ones")


def remind(names: Names) -> Finding:
    """What no check can see."""
    return ok(
        "readers downstream",
        f"whoever reads {names.output} must set isolation.level=read_committed, or sees forecasts of aborted "
        "transactions, too",
        "no check can see this",
    )
