"""What the topics do to records: how large they may be, what their timestamps mean, how long the input is kept."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from streamer.doctor.facts import KafkaFacts, ModelFacts, Names, SampleFacts, TopicFacts
from streamer.doctor.findings import Finding, amount, duration, fail, ok, warn
from streamer.settings import InputSettings

LARGEST = "max.message.bytes"
ENVELOPE_BYTES = 1024  # a batch's and a record's own headers, its key, and a little


def check_sizes(names: Names, kafka: KafkaFacts, model: ModelFacts | None, input_: InputSettings) -> Iterator[Finding]:
    """Topics take the largest record that is written to them, and the daemon the largest of the input."""
    if model is not None:
        yield from _fits(names.output, kafka, model.forecast_bytes, "a forecast of this model may have")
        for name in names.changelogs.values():
            yield from _fits(name, kafka, model.snapshot_bytes, "a snapshot of this model has")
    for name in names.inputs:
        limit = kafka.topic(name).number(LARGEST)
        subject = f"record sizes of {name}"
        if limit is None:
            continue
        if limit > input_.max_record_bytes + ENVELOPE_BYTES:
            yield warn(
                subject,
                f"the topic takes {limit:,} bytes, input.max_record_bytes is {input_.max_record_bytes:,}: "
                "records between are rejected as too_large",
                "raise input.max_record_bytes, or leave it if no event is that large",
            )
        else:
            yield ok(subject, f"up to {limit:,} bytes, input.max_record_bytes is {input_.max_record_bytes:,}")
        letters = kafka.topic(names.dead_letters).number(LARGEST) if names.dead_letters else None
        if letters is not None and letters < limit:
            yield warn(
                f"record sizes of {names.dead_letters}",
                f"{letters:,} bytes, the input's {name} takes {limit:,}: dead letters beyond are cut to 1 KB",
                f"raise its {LARGEST} a little above {limit:,}",
            )


def _fits(name: str, kafka: KafkaFacts, size: int, what: str) -> Iterator[Finding]:
    limit = kafka.topic(name).number(LARGEST)
    if limit is None:
        return
    found = f"{what} {amount(size)}, {LARGEST} is {limit:,}"
    if size + ENVELOPE_BYTES > limit:
        yield fail(f"record sizes of {name}", found, f"raise {LARGEST} to {2 * (size + ENVELOPE_BYTES):,} or more")
    else:
        yield ok(f"record sizes of {name}", found)


def check_times(names: Names, kafka: KafkaFacts, input_: InputSettings) -> Iterator[Finding]:
    """A record's timestamp as the event's time must be the producer's, not the time of its arrival."""
    for name in names.inputs:
        kind = kafka.topic(name).settings.get("message.timestamp.type")
        if kind is None:
            continue
        subject = f"timestamps of {name}"
        if kind == "LogAppendTime" and input_.fields.ts == "$timestamp":
            yield warn(
                subject,
                "message.timestamp.type is LogAppendTime and input.fields.ts is $timestamp: an event's time is that of "
                "its arrival, and a delayed one falls into a wrong slot",
                "set message.timestamp.type to CreateTime, or take the time from the event",
            )
        else:
            yield ok(subject, f"message.timestamp.type {kind}, the event's time is {input_.fields.ts!r}")


def check_retention(
    names: Names, kafka: KafkaFacts, sample: SampleFacts, max_replay_events: int, warm_steps: int = 0
) -> Iterator[Finding]:
    """The input is to be there as far back as a restart may replay, and streams may be built anew from.

    warm_steps  `state.warm_from_input_steps`
    """
    for name in names.inputs:
        topic = kafka.topic(name)
        if not topic.settings:
            continue
        subject = f"retention of {name}"
        if "compact" in topic.settings.get("cleanup.policy", ""):
            yield fail(
                subject,
                "the input is compacted: earlier events of a key vanish, and a restart that replays them computes "
                "other states",
                "set cleanup.policy to delete",
            )
            continue
        replayed = _Reach(
            max_replay_events, "state.max_replay_events", max_replay_events, f"{max_replay_events:,} events", _REPLAYED
        )
        reaches = [replayed]
        streams = _streams(name, sample)
        if warm_steps and streams:
            told = f"{warm_steps:,} steps of {streams:,} streams and more in a partition"
            reaches.append(_Reach(warm_steps * streams, "state.warm_from_input_steps", warm_steps, told, _BUILT))
        for reach in reaches:
            yield from _kept(subject, topic, sample, _span_ms(name, sample, reach.events), reach)


@dataclass(frozen=True)
class _Reach:
    """How far back the input is read, and by which setting.

    events   of one partition
    setting  that says so, and its value
    told     the events, for people
    else_    what happens where they are not there any more
    """

    events: int
    setting: str
    value: int
    told: str
    else_: str


_REPLAYED = "streams whose input is deleted before their snapshot is written start fresh"
_BUILT = "a new model's streams are built from less, and their forecasts may not be warm"


def _kept(
    subject: str, topic: TopicFacts, sample: SampleFacts, span_ms: float | None, reach: _Reach
) -> Iterator[Finding]:
    kept_ms, kept_bytes = topic.number("retention.ms"), topic.number("retention.bytes")
    kept = "without limit" if kept_ms is None or kept_ms < 0 else duration(kept_ms)
    used = sample.bytes / max(sample.records, 1) * reach.events
    if span_ms is None or kept_ms is None or kept_ms < 0:
        yield ok(subject, f"retention.ms {kept}")
    elif kept_ms < span_ms:
        yield warn(
            subject,
            f"retention.ms is {kept}, but {reach.told} ({reach.setting}) take {duration(span_ms)} at the sample's "
            f"rate: {reach.else_}",
            f"raise it, or lower {reach.setting} to {max(1, int(reach.value * kept_ms / span_ms / 2)):,}",
        )
    else:
        found = f"{reach.told} ({reach.setting}) take {duration(span_ms)} at the sample's rate"
        yield ok(subject, f"retention.ms {kept}, {found}")
    if kept_bytes is not None and 0 <= kept_bytes < used:
        yield warn(
            subject,
            f"retention.bytes is {amount(kept_bytes)} per partition, {reach.told} ({reach.setting}) take about "
            f"{amount(used)}: {reach.else_}",
            f"raise it, or lower {reach.setting}",
        )


def _streams(topic: str, sample: SampleFacts) -> int:
    """The most streams that were seen in one partition of a topic; there may be more."""
    seen = Counter(p for places in sample.seen_in.values() for p in places if p.topic == topic)
    return max(seen.values(), default=0)


def _span_ms(topic: str, sample: SampleFacts, events: int) -> float | None:
    """How long the busiest partition of a topic takes for so many events; None where the sample cannot say."""
    rates = [n / ms for (name, _), (n, ms) in sample.spans.items() if name == topic and n > 1 and ms > 0]
    return events / max(rates) if rates else None
