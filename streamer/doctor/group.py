"""The group's committed positions, held against the input and the changelogs: what the next start will find."""

from collections.abc import Iterator

from streamer.checkpoint import low_water_of
from streamer.core.events import Partition
from streamer.delivery import Position
from streamer.doctor.facts import KafkaFacts, Names, TopicFacts
from streamer.doctor.findings import Finding, fail, ok, warn

RESET = "`streamer state reset` starts the streams fresh"


def check_group(names: Names, kafka: KafkaFacts, group_id: str) -> Iterator[Finding]:
    """Members, positions and lag."""
    group, subject = kafka.group, f"group {group_id}"
    if group.refused:
        yield fail(
            subject,
            f"it cannot be described ({group.refused})",
            f"`kafka-acls.sh --add --allow-principal User:… --operation Read --group {group_id}`",
        )
        return
    yield ok(subject, f"{len(group.members)} members" + (f": {', '.join(group.members)}" if group.members else ""))
    for input_, changelog in names.changelogs.items():
        committed = {p.number: at for p, at in group.positions.items() if p.topic == input_ and at is not None}
        if kafka.topic(input_).partitions:
            yield from _topic(input_, committed, kafka.topic(input_), kafka.topic(changelog))


def _topic(topic: str, committed: dict[int, Position], input_: TopicFacts, changelog: TopicFacts) -> Iterator[Finding]:
    problems: list[Finding] = []
    for number in range(input_.partitions):
        partition, saved = Partition(topic, number), changelog.end.get(number, 0) > 0
        if (at := committed.get(number)) is not None:
            problems += _position(partition, at, input_, saved)
        elif saved:
            problems.append(
                fail(
                    _subject(partition),
                    "no position is committed, but the changelog holds snapshots: the group's positions were deleted "
                    "or have expired, and the snapshots may cover more input than input.start says",
                    RESET,
                )
            )
    yield from problems
    if not problems:
        yield ok(f"positions in {topic}", _summary(committed, input_))


def _position(partition: Partition, at: Position, input_: TopicFacts, saved: bool) -> Iterator[Finding]:
    subject, number = _subject(partition), partition.number
    begin, end = input_.begin.get(number), input_.end.get(number)
    low_water = low_water_of(at)
    if low_water is None and saved:
        yield fail(
            subject,
            f"offset {at.offset} was committed by somebody else (its metadata is {at.metadata!r}), so it does not fit "
            "the snapshots in the changelog",
            RESET,
        )
    if end is not None and at.offset > end:
        found = f"offset {at.offset} is committed, but the input ends at {end}"
        yield fail(subject, found, f"if it was made anew, {RESET}")
    needed = at.offset if low_water is None else low_water
    if begin is not None and needed < begin <= at.offset:
        yield warn(
            subject,
            f"the input begins at {begin}, above the low-water mark {needed}: streams without a snapshot since then "
            "start fresh",
            "raise the input's retention.ms above the longest pause of the daemon",
        )
    if begin is not None and at.offset < begin:
        yield warn(
            subject,
            f"offset {at.offset} is committed, but the input begins at {begin}: {begin - at.offset:,} offsets were "
            "deleted before they were read",
            "raise the input's retention.ms above the longest pause of the daemon",
        )


def _summary(committed: dict[int, Position], input_: TopicFacts) -> str:
    if not committed:
        return "none committed yet: the first start begins at input.start"
    lag = sum(max(0, input_.end.get(number, at.offset) - at.offset) for number, at in committed.items())
    low_water = {number: low_water_of(at) for number, at in committed.items()}
    replay = sum(committed[number].offset - mark for number, mark in low_water.items() if mark is not None)
    where = f"committed for {len(committed)} of {input_.partitions} partitions"
    return f"{where}, lag {lag:,}, {replay:,} to replay at a restart"


def _subject(partition: Partition) -> str:
    return f"position in {partition.topic}-{partition.number}"
