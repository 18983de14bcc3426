"""The group's committed positions, and where a partition without one begins."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition

from streamer.adapters.librdkafka.ending import close
from streamer.adapters.librdkafka.failures import REFUSALS, error_of, told
from streamer.adapters.librdkafka.opening import open_client
from streamer.adapters.librdkafka.options import reader_options
from streamer.core.events import Partition
from streamer.delivery import NotNowError, Position
from streamer.kafka.wording import name_taken, refused, without_secrets
from streamer.settings import InputSettings, KafkaSettings

LOOK_SECONDS = 0.25  # for where a log begins: asked between polls, and only for a metric
ANSWER_SECONDS = 1.0  # the loop polls in between, and asks again


class Positions:
    """What the group's coordinator and the partitions' leaders know, asked for with a limit.

    `committed` and `starting_offset` may be asked on another thread, so they have a consumer of their own, of the
    group's name but no member of it: confluent-kafka lets one thread at a time into a consumer, and who polls is in it
    nearly always (tried: the other one waits for minutes).
    """

    def __init__(self, consumer: Consumer, kafka: KafkaSettings, input_: InputSettings) -> None:
        self._consumer = consumer
        self._kafka = kafka
        self._input = input_
        self._asked: Consumer | None = None

    def use(self, consumer: Consumer) -> None:
        """Ask another member's consumer from now on."""
        self._consumer = consumer

    def close(self) -> None:
        """Close the connections that only questions use."""
        asked, self._asked = self._asked, None
        if asked is not None:
            close(asked)

    def committed(self, partitions: Collection[Partition]) -> Mapping[Partition, Position | None]:
        """The stable committed positions: the library asks for these where it reads `read_committed`."""
        with self._not_now("reading committed positions"):
            asked = [TopicPartition(*partition) for partition in partitions]
            found = self._asking().committed(asked, timeout=ANSWER_SECONDS) if asked else []
            for each in found:
                if each.error:
                    raise KafkaException(each.error)
        return {
            Partition(each.topic, each.partition): None
            if each.offset == OFFSET_INVALID
            else Position(each.offset, each.metadata or "")
            for each in found
        }

    def starting_offset(self, partition: Partition) -> int:
        """Where a partition without a committed position begins."""
        with self._not_now("looking for the starting position"):
            consumer = self._asking()
            if self._input.start_ms is not None:
                asked = [TopicPartition(*partition, self._input.start_ms)]
                (found,) = consumer.offsets_for_times(asked, timeout=ANSWER_SECONDS)
                if found.error:
                    raise KafkaException(found.error)
                if found.offset >= 0:  # else it is after the last record
                    return int(found.offset)
            begin, end = consumer.get_watermark_offsets(TopicPartition(*partition), timeout=ANSWER_SECONDS)
            return int(begin if self._input.start == "earliest" else end)

    def beginning(self, partition: Partition) -> int:
        """The first offset that is still there."""
        with self._not_now("looking for the beginning"):
            begin, _ = self._consumer.get_watermark_offsets(TopicPartition(*partition), timeout=LOOK_SECONDS)
            return int(begin)

    def _asking(self) -> Consumer:
        if self._asked is None:
            options = reader_options(self._kafka, "read_committed")  # what makes committed positions the stable ones
            self._asked = open_client(Consumer, self._kafka, options)
        self._asked.poll(0)  # it reads nothing: only its log lines and errors wait there
        return self._asked

    @contextmanager
    def _not_now(self, what: str) -> Iterator[None]:
        try:
            yield
        except KafkaException as problem:
            error = error_of(problem)
            text = without_secrets(told(error), self._kafka)
            if error.code() == KafkaError.FENCED_INSTANCE_ID:
                raise name_taken(self._kafka) from problem
            if error.code() in REFUSALS:
                raise refused(self._kafka, what, text) from problem
            raise NotNowError(f"{what}: {text}") from None
