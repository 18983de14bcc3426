"""Write a Kafka topic's events to tidy parquet, understood exactly as the daemon understands them.

Each partition is read from its beginning to where it ended when the reading began, outside of any consumer
group. What the daemon would reject is counted by reason and left out; duplicates and late events are kept, for
the trainer places events on its grid by the daemon's own rule.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
from kafka import TopicPartition

from streamer.adapters.kafka_python.connecting import open_client, refusals
from streamer.adapters.kafka_python.consumer import Consumer
from streamer.adapters.kafka_python.options import consumer_options
from streamer.assembly import layout_of
from streamer.core.decoding import Decoder, Limits
from streamer.core.events import Partition, Records
from streamer.core.fields import Layout, find, parse
from streamer.errors import ConfigError
from streamer.settings import InputSettings, KafkaSettings

POLL_RECORDS = 10_000
POLL_SECONDS = 1.0
ROWS_PER_FILE = 1_000_000  # what is held in memory before it is written


def collect(
    kafka: KafkaSettings,
    events: InputSettings,
    folder: Path,
    covariates: Sequence[str] = (),
    static: Sequence[str] = (),
) -> Counter[str]:
    """Write `folder`/part-00000.parquet, … with columns stream, ts, value, covariates and categories.

    covariates, static  names to keep besides those that `input.fields` maps

    returns  how many events were written, under `events`, and how many rejected, by reason code
    Raises ConfigError for an unreachable broker, a topic that does not exist, one without a usable event, or a folder
    that holds parts of an earlier collection, which would be read along with these.
    """
    if old := sorted(folder.glob("part-*.parquet")):
        raise ConfigError(
            f"{folder}: holds {len(old)} parts of an earlier collection, {old[0].name} first; name another folder, or "
            "remove them"
        )
    columns = Columns(layout_of(events.fields), covariates, static, Limits(events.max_record_bytes, events.max_abs))
    folder.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    held: list[pl.DataFrame] = []
    files = 0
    for records in read_topics(kafka, events.topics):
        frame, rejected = columns.decode(records)
        counts.update({"events": len(frame)})
        counts.update(rejected)
        held.append(frame)
        if sum(map(len, held)) >= ROWS_PER_FILE:
            files, held = _write(held, folder, files), []
    _write(held, folder, files)
    if not counts["events"]:
        raise ConfigError(f"input.topics: {', '.join(events.topics)} held no usable event; rejected: {dict(counts)}")
    return counts


class Columns:
    """Decodes records to rows of tidy data."""

    def __init__(self, layout: Layout, covariates: Sequence[str], static: Sequence[str], limits: Limits) -> None:
        self.covariates = list(dict.fromkeys((*layout.covariates, *covariates)))
        self.paths = {name: layout.category(name) for name in dict.fromkeys((*layout.static, *static))}
        self.decoder = Decoder(layout, self.covariates, dict.fromkeys(self.paths, ()), limits)

    def decode(self, records: Records) -> tuple[pl.DataFrame, Counter[str]]:
        """A row per usable record, and the others counted by reason."""
        events = self.decoder.decode(records)
        numbers = {name: events.values[:, i] for i, name in enumerate(("value", *self.covariates))}
        frame = pl.DataFrame({"stream": events.stream, "ts": events.ts, **numbers})
        frame = frame.with_columns(pl.col(*numbers).fill_nan(None))
        words: Mapping[str, list[str | None]] = {name: [] for name in self.paths}
        for i in events.index if self.paths else ():
            document, _ = parse(records.values[i] or b"")
            for name, path in self.paths.items():
                found = find(document, path)
                words[name].append(found if isinstance(found, str) else None)
        added = [pl.Series(name, column, dtype=pl.String) for name, column in words.items()]
        return frame.with_columns(added), Counter(rejection.reason for rejection in events.rejected)


def read_topics(kafka: KafkaSettings, topics: Sequence[str]) -> Iterator[Records]:
    """Every record of the topics up to their present ends, poll by poll."""
    options = consumer_options(kafka) | {"group_id": None, "group_instance_id": None, "enable_auto_commit": False}
    with closing(open_client(Consumer, kafka, options)) as consumer, refusals(kafka):
        partitions = [p for topic in topics for p in _partitions(consumer, topic)]
        ends = consumer.end_offsets(partitions)
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        while any(consumer.position(p) < ends[p] for p in partitions):
            for partition, batch in consumer.poll(timeout_ms=1000 * POLL_SECONDS, max_records=POLL_RECORDS).items():
                before = [record for record in batch if record.offset < ends[partition]]
                yield _columns(partition, before)


def _partitions(consumer: Any, topic: str) -> list[TopicPartition]:
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise ConfigError(f"input.topics: topic {topic!r} does not exist; name one that does")
    return [TopicPartition(topic, number) for number in sorted(numbers)]


def _columns(partition: TopicPartition, batch: Sequence[Any]) -> Records:
    return Records(
        partition=Partition(partition.topic, partition.partition),
        offsets=[record.offset for record in batch], timestamps=[record.timestamp for record in batch],
        keys=[record.key for record in batch], values=[record.value for record in batch],
    )  # fmt: skip


def _write(held: Sequence[pl.DataFrame], folder: Path, number: int) -> int:
    """Write what is held as file `number`; returns the next number."""
    if not sum(map(len, held)):
        return number
    pl.concat(held).write_parquet(folder / f"part-{number:05}.parquet")
    return number + 1
