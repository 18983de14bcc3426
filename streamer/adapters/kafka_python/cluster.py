"""The brokers' side of a client's start, asked for through kafka-python's admin client."""

from collections.abc import Collection

from streamer.adapters.kafka_python.options import quiet_library
from streamer.adapters.kafka_python.topics import check_place, check_topics, ensure_changelogs, largest_messages
from streamer.errors import ConfigError
from streamer.kafka.cluster import Ground
from streamer.settings import InputSettings, KafkaSettings, OutputSettings


class KafkaPythonCluster:
    """`streamer.kafka.cluster.Cluster`."""

    def __init__(self, kafka: KafkaSettings, input_: InputSettings, output: OutputSettings) -> None:
        self._kafka = kafka
        self._input = input_
        self._output = output

    def prepare(self) -> Ground:
        """Check the topics and create missing changelogs. Raises ConfigError."""
        quiet_library()
        partitions = check_topics(self._kafka, self._input, self._output)
        changelogs = ensure_changelogs(self._kafka, {topic: partitions[topic] for topic in self._input.topics})
        dead = self._output.dead_letter_topic
        largest = largest_messages(self._kafka, [self._output.topic, *changelogs, *([dead] if dead else [])])
        return Ground(partitions, min(largest.values()) * 9 // 10, largest.get(dead, 0))  # compression may add a little

    def largest_letter(self) -> int | None:
        """The largest record that the dead letter topic takes; None while brokers do not say."""
        topic = self._output.dead_letter_topic
        try:
            return largest_messages(self._kafka, [topic])[topic]
        except ConfigError:
            return None  # brokers are away; the transaction itself will say so

    def is_ours(self, member_ids: Collection[str]) -> bool | None:
        """Whether our name in the group is still this member's, or nobody's; None while the brokers do not say."""
        return check_place(self._kafka, member_ids)
