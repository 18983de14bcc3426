"""`streamer state show STREAM`: what is saved of one stream, from its changelog."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from streamer.checkpoint import low_water_of
from streamer.core.contract import Array, Manifest
from streamer.core.dissection import Dissected, dissect
from streamer.core.events import Partition
from streamer.core.timegrid import TimeGrid
from streamer.delivery import LogReader, Position
from streamer.doctor.gathering import LoadedModel
from streamer.settings import Settings
from streamer.state.group import GroupState, read_all
from streamer.tasks import changelog_of

SHOWN_VALUES = 5


@dataclass(frozen=True)
class Saved:
    """The last record of a stream in one partition of a changelog."""

    partition: Partition  # of the input
    changelog: Partition
    offset: int
    value: bytes | None
    committed: Position | None


def show(
    stream: str,
    settings: Settings,
    group: GroupState,
    reader: LogReader,
    model: LoadedModel | None,
    write: Callable[[str], None] = print,
) -> bool:
    """Write what every partition holds of a stream; whether any holds it."""
    found = False
    for saved in _find(stream, settings, group, reader):
        found = found or saved.value is not None
        for line in lines(stream, saved, model):
            write(line)
    if not found:
        write(
            f"{stream!r}: no snapshot in the changelogs of group {settings.kafka.group_id!r} "
            f"(input {', '.join(settings.input.topics)}); a stream is there from its first accepted event on, under "
            "the id that input.fields.stream names"
        )
    return found


def _find(stream: str, settings: Settings, group: GroupState, reader: LogReader) -> Iterator[Saved]:
    key = stream.encode()
    inputs = group.partitions(settings.input.topics)
    changelogs = {topic: changelog_of(settings.kafka.group_id, Partition(topic, 0)).topic for topic in inputs}
    there = group.partitions(list(changelogs.values()))
    for topic, name in changelogs.items():
        for number in range(there[name]):
            changelog = Partition(name, number)
            last: tuple[int, bytes | None] | None = None
            for records in read_all(reader, changelog):
                for offset, each, value in zip(records.offsets, records.keys, records.values, strict=True):
                    last = (offset, value) if each == key else last
            if last is not None:
                partition = Partition(topic, number)
                yield Saved(partition, changelog, *last, group.committed([partition])[partition])


def lines(stream: str, saved: Saved, model: LoadedModel | None) -> Iterator[str]:
    """A snapshot, for people."""
    topic, number = saved.partition
    where = f"offset {saved.offset} of {saved.changelog.topic}-{saved.changelog.number}"
    if saved.value is None:
        yield f"{topic}-{number}: {stream!r} was forgotten, tombstone at {where}"
        return
    snapshot = dissect(saved.value)
    if snapshot is None:
        yield f"{topic}-{number}: {stream!r}, {where} is corrupt or of another format: its stream starts fresh"
        return
    yield f"{topic}-{number}: {stream!r}, snapshot at {where}"
    yield f"  model       {_model(snapshot, model)}"
    own = model if model is not None and model.fingerprint == snapshot.fingerprint else None
    yield f"  last slot   {snapshot.last_slot}" + (f" = {_time(snapshot.last_slot, own.manifest)}" if own else "")
    yield f"  age         {snapshot.age:,} steps since it began fresh" + (_warmth(snapshot, own) if own else "")
    if snapshot.codes:
        yield f"  codes       {_codes(snapshot, own)}"
    yield f"  covers      {_covers(snapshot.covers, saved.committed)}"
    shapes = {spec.name: spec.shape for spec in own.signature.states} if own else {}
    for name, state in snapshot.states.items():
        yield f"  state       {name} {state.dtype} {shapes.get(name, state.shape)}  {_summary(state)}"


def _model(snapshot: Dissected, model: LoadedModel | None) -> str:
    short = snapshot.fingerprint[:12]
    if model is None:
        return f"fingerprint {short}; no model.path to compare it with"
    if model.fingerprint == snapshot.fingerprint:
        return f"{model.manifest.model_id}, fingerprint {short}, the configured one"
    return (
        f"fingerprint {short}, not the configured {model.manifest.model_id} ({model.fingerprint[:12]}), "
        "which will not use it: the stream starts fresh"
    )


def _time(slot: int, manifest: Manifest) -> str:
    grid = TimeGrid.of(manifest, nearest=False, max_gap_steps=0)
    milliseconds = int(grid.times(np.array([slot]))[0])
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat().replace("+00:00", "Z")


def _warmth(snapshot: Dissected, model: LoadedModel) -> str:
    needed = model.manifest.warmup_steps
    return ", warm" if snapshot.age >= needed else f", warm from {needed:,} on"


def _codes(snapshot: Dissected, model: LoadedModel | None) -> str:
    if model is None:
        return ", ".join(map(str, snapshot.codes))
    named = zip(model.manifest.static.items(), snapshot.codes, strict=True)
    return ", ".join(f"{name}={words[code - 1] if code else 'unknown'}" for (name, words), code in named)


def _covers(covers: int, committed: Position | None) -> str:
    text = f"every event of it below input offset {covers}"
    if committed is None:
        return f"{text}; the group has committed no position: the next run begins at input.start"
    low_water = low_water_of(committed)
    if low_water is None:
        return f"{text}; offset {committed.offset} was committed by somebody else: `streamer state reset`"
    text += f"; committed {committed.offset}, low-water mark {low_water}"
    if covers > committed.offset:
        return f"{text}: it covers more than was committed, `streamer state reset`"
    return f"{text}: a restart replays its events in [{max(covers, low_water)}, {committed.offset})"


def _summary(state: Array) -> str:
    values = state.astype(np.float64)
    if not values.size:
        return "empty"
    last = ", ".join(f"{value:.6g}" for value in values[-SHOWN_VALUES:].tolist())
    norm, least, most = np.linalg.norm(values), values.min(), values.max()
    return f"norm {norm:.6g}  min {least:.6g}  max {most:.6g}  last values {last}"
