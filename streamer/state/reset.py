"""`streamer state reset`: every stream of the group starts fresh, at the offsets that the group has committed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from streamer.checkpoint import low_water_of, position_of
from streamer.core.dissection import dissect
from streamer.core.events import Partition
from streamer.delivery import LogReader, Position
from streamer.settings import Settings
from streamer.state.group import GroupState, read_all
from streamer.tasks import changelog_of

Write = Callable[[str], None]


@dataclass(frozen=True)
class PartitionReset:
    """What is to be done for one partition of the input.

    begin, end  of the input
    keys        streams with a snapshot in the changelog
    beyond      how many of these cover more input than was committed
    """

    partition: Partition
    changelog: Partition
    committed: Position | None
    begin: int
    end: int
    keys: list[bytes]
    beyond: int

    @property
    def offset(self) -> int | None:
        """Where the next run goes on: at the committed offset, as far as the input has it; None: at input.start."""
        return None if self.committed is None else min(max(self.committed.offset, self.begin), self.end)


def reset(
    settings: Settings,
    group: GroupState,
    reader: LogReader,
    confirm: Callable[[], bool],
    write: Write = print,
) -> bool:
    """Forget every snapshot and commit the present offsets with metadata that fits; whether it was done.

    1. refuse while the group has members: one would go on from the states that are to go
    2. the committed positions, stable, and the changelogs to their ends, open transactions waited for
    3. say what is to be done, and ask
    4. refuse if somebody has joined since
    5. a tombstone for every key, then the positions with the last transaction: a reset that is cut short leaves
       snapshots that a start refuses, or streams that begin fresh as they should, and is simply run again

    Raises NotNowError, DeliveryError, ConfigError.
    """
    group_id = settings.kafka.group_id
    if _occupied(group, group_id, write):  # 1
        return False
    resets = list(plan(settings, group, reader))  # 2
    if not any(each.keys or each.committed is not None for each in resets):
        write(f"group {group_id!r} has neither snapshots nor positions: nothing to reset")
        return True
    for line in explain(resets, settings.input.start):  # 3
        write(line)
    if not confirm():
        write("nothing was changed")
        return False
    if _occupied(group, group_id, write):  # 4
        return False
    tombstones = {each.changelog: each.keys for each in resets if each.keys}
    positions = {each.partition: position_of(each.offset, each.offset) for each in resets if each.offset is not None}
    group.forget(tombstones, positions)  # 5
    streams = sum(map(len, tombstones.values()))
    write(f"done: {streams:,} streams forgotten, {len(positions)} positions committed; start the daemon")
    return True


def plan(settings: Settings, group: GroupState, reader: LogReader) -> Iterator[PartitionReset]:
    """What is to be done for each partition of the input."""
    counts = group.partitions(settings.input.topics)
    partitions = [Partition(topic, number) for topic in settings.input.topics for number in range(counts[topic])]
    changelogs = {partition: changelog_of(settings.kafka.group_id, partition) for partition in partitions}
    there = group.partitions(sorted({changelog.topic for changelog in changelogs.values()}))
    committed = group.committed(partitions)
    for partition, changelog in changelogs.items():
        covers = _covers(reader, changelog) if changelog.number < there[changelog.topic] else {}
        at = committed[partition]
        beyond = sum(each > at.offset for each in covers.values()) if at is not None else 0
        begin, end = reader.begin(partition), reader.end(partition)
        yield PartitionReset(partition, changelog, at, begin, end, list(covers), beyond)


def explain(resets: list[PartitionReset], start: str) -> Iterator[str]:
    """What will be done, and what was found that made it necessary."""
    yield f"{sum(len(each.keys) for each in resets):,} streams will start fresh, each with a warm-up:"
    for each in resets:
        topic, number = each.partition
        found = []
        if each.committed is None:
            goes_on = f"no position is committed, so it begins at input.start ({start})"
        else:
            goes_on = f"goes on at offset {each.offset}"
            if each.offset != each.committed.offset:
                found.append(f"offset {each.committed.offset} is committed, the input has {each.begin} to {each.end}")
            if low_water_of(each.committed) is None:
                found.append(f"committed by somebody else, metadata {each.committed.metadata!r}")
            if each.beyond:
                found.append(f"{each.beyond:,} snapshots cover more than was committed")
        yield f"  {topic}-{number}: {len(each.keys):,} snapshots, {goes_on}" + "".join(f"; {what}" for what in found)
    yield "forecasts already published stay; every event from these offsets on is forecast, from a fresh state"


def _occupied(group: GroupState, group_id: str, write: Write) -> bool:
    members = group.members()
    if members:
        write(
            f"group {group_id!r} has {len(members)} members: {', '.join(members)}; stop them and run this again "
            "(one that was killed leaves the group when its session times out)"
        )
    return bool(members)


def _covers(reader: LogReader, changelog: Partition) -> dict[bytes, int]:
    """What each snapshot that is there covers; 0 for one that nobody can read."""
    covers: dict[bytes, int] = {}
    for records in read_all(reader, changelog):
        for key, value in zip(records.keys, records.values, strict=True):
            if value is None:
                covers.pop(key or b"", None)
            else:
                snapshot = dissect(value)
                covers[key or b""] = 0 if snapshot is None else snapshot.covers
    return covers
