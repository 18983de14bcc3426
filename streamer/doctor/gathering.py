"""Gather what the checks judge where the brokers do not simply say it: the model's sizes, and a sample of the input."""

import time
from collections import Counter
from typing import Protocol

from streamer.assembly import decoder_for, encoder_for, engine_for
from streamer.core.contract import Manifest, Model
from streamer.core.decoding import Decoder
from streamer.core.events import NO_TIMESTAMP, Partition, Records
from streamer.core.snapshot import SnapshotFormat
from streamer.delivery import DeliveryError, LogReader, NotNowError
from streamer.doctor.facts import KafkaFacts, ModelFacts, Names, SampleFacts
from streamer.reading import read_up_to
from streamer.settings import Settings

SAMPLE_RECORDS, SAMPLE_PER_PARTITION = 100_000, 2_000
SAMPLE_SECONDS = 15.0
PARTITION_SECONDS = 1.0  # at least, so that one that does not answer costs the others nothing
NUMBER_BYTES, LEVEL_BYTES, REST_BYTES = 15, 32, 1_500  # "-1.2345678e-10,", a level's name, and names of 512 bytes


class LoadedModel(Model, Protocol):
    """A model, and what is known of its file."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def providers(self) -> tuple[str, ...]: ...


def model_facts(model: LoadedModel, settings: Settings) -> ModelFacts:
    """A model's sizes. Raises ConfigError where the settings do not fit it."""
    manifest = model.manifest
    one = settings.state.model_copy(update={"max_streams": 1})
    arena = engine_for(model, settings.input, one, settings.output.every).arena
    encoder_for(manifest, settings.output)
    snapshots = SnapshotFormat(model.fingerprint, model.signature.states, len(manifest.static))
    numbers = len(manifest.levels) * (LEVEL_BYTES + manifest.horizon * NUMBER_BYTES)
    return ModelFacts(
        manifest.model_id,
        model.fingerprint,
        model.providers,
        arena.bytes_per_stream,
        snapshots.bytes_per_snapshot,
        REST_BYTES + numbers,
    )


def sample_input(
    reader: LogReader, manifest: Manifest, settings: Settings, names: Names, kafka: KafkaFacts
) -> SampleFacts:
    """The recent part of every input partition, decoded; bounded in records and in seconds."""
    partitions = [Partition(name, number) for name in names.inputs for number in sorted(kafka.topic(name).end)]
    each = min(SAMPLE_PER_PARTITION, SAMPLE_RECORDS // max(1, len(partitions)))
    sampling = _Sampling(decoder_for(manifest, settings.input))
    problem, over = "", time.monotonic() + SAMPLE_SECONDS
    for left, partition in zip(range(len(partitions), 0, -1), partitions, strict=True):
        topic = kafka.topic(partition.topic)
        end = topic.end[partition.number]
        recent = range(max(topic.begin.get(partition.number, 0), end - each), end)
        deadline = time.monotonic() + max(PARTITION_SECONDS, (over - time.monotonic()) / left)
        try:
            for records in read_up_to(reader, partition, recent, deadline):
                sampling.add(records)
        except (NotNowError, DeliveryError) as error:
            problem = str(error)
    return sampling.facts(problem)


class _Sampling:
    """A sample as it grows."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._records = self._bytes = 0
        self._rejected: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._seen_in: dict[str, set[Partition]] = {}
        self._counts: Counter[Partition] = Counter()
        self._times: dict[Partition, tuple[int, int]] = {}

    def add(self, records: Records) -> None:
        """Decode records and remember what became of them."""
        events = self._decoder.decode(records)
        self._records += len(records)
        self._bytes += sum(len(value or b"") for value in records.values)
        for rejection in events.rejected:
            self._rejected[rejection.reason] += 1
            self._examples.setdefault(rejection.reason, rejection.message)
        for stream in events.stream:
            self._seen_in.setdefault(stream, set()).add(records.partition)
        known = [stamp for stamp in records.timestamps or () if stamp != NO_TIMESTAMP]
        self._counts[records.partition] += len(known)
        if known:
            first, last = self._times.get(records.partition, (known[0], known[0]))
            self._times[records.partition] = (min(first, *known), max(last, *known))

    def facts(self, problem: str) -> SampleFacts:
        return SampleFacts(
            self._records,
            self._bytes,
            dict(self._rejected),
            self._examples,
            {stream: sorted(partitions) for stream, partitions in self._seen_in.items()},
            {p: (self._counts[p], last - first) for p, (first, last) in self._times.items()},
            problem,
        )
