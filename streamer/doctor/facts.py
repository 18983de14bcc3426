"""What the checks judge: facts about the model, the cluster, its topics and the group, gathered before.

Whoever gathers leaves empty what may not be seen; a check then says so instead of guessing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamer.core.events import Partition
from streamer.delivery import Position
from streamer.settings import Settings
from streamer.tasks import changelog_of


@dataclass(frozen=True)
class Names:
    """The topics that the settings name, by what they are for."""

    inputs: Sequence[str]
    output: str
    dead_letters: str  # empty: none
    changelogs: Mapping[str, str]  # by input topic

    @classmethod
    def of(cls, settings: Settings) -> "Names":
        group, inputs = settings.kafka.group_id, settings.input.topics
        changelogs = {topic: changelog_of(group, Partition(topic, 0)).topic for topic in inputs}
        return cls(inputs, settings.output.topic, settings.output.dead_letter_topic, changelogs)

    @property
    def settings(self) -> Mapping[str, str]:
        """Every topic that must exist, and the setting that names it."""
        named = dict.fromkeys(self.inputs, "input.topics") | {self.output: "output.topic"}
        return named | ({self.dead_letters: "output.dead_letter_topic"} if self.dead_letters else {})

    @property
    def all(self) -> list[str]:
        return [*self.settings, *self.changelogs.values()]


@dataclass(frozen=True)
class ModelFacts:
    """A loaded model.

    bytes_per_stream  of memory, its bookkeeping included
    snapshot_bytes    of a changelog record's value
    forecast_bytes    the largest that a forecast of it is likely to be
    """

    model_id: str
    fingerprint: str
    providers: Sequence[str]
    bytes_per_stream: int
    snapshot_bytes: int
    forecast_bytes: int


@dataclass(frozen=True)
class TopicFacts:
    """A topic as its brokers describe it.

    partitions  0 where it does not exist
    refused     its description is refused, with this error
    copies      the fewest of any partition, and of those the fewest in sync
    headless    partitions that have no leader
    settings    by Kafka's names; empty where they may not be seen
    operations  what this user may do; None where the brokers do not say
    begin, end  offsets by partition number; empty where they may not be seen
    """

    partitions: int = 0
    refused: str = ""
    copies: int = 0
    in_sync: int = 0
    headless: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    operations: frozenset[str] | None = None
    begin: Mapping[int, int] = field(default_factory=dict)
    end: Mapping[int, int] = field(default_factory=dict)

    def number(self, setting: str) -> int | None:
        """A setting that is a whole number; None where it may not be seen."""
        text = self.settings.get(setting)
        return None if text is None else int(float(text))


@dataclass(frozen=True)
class ClusterFacts:
    """The brokers.

    brokers, fenced     those that serve, and those that are known but do not
    version             at least this one, as the requests it knows tell
    group_transactions  positions go into transactions with the group's generation (Kafka 2.5)
    settings            of one broker; empty where they may not be seen
    operations          on the cluster; None where the brokers do not say
    authorizer          whether permissions are checked at all; None where that may not be seen
    """

    brokers: int
    fenced: int
    version: Sequence[int]
    group_transactions: bool
    settings: Mapping[str, str] = field(default_factory=dict)
    operations: frozenset[str] | None = None
    authorizer: bool | None = None

    def number(self, setting: str) -> int | None:
        """A setting that is a whole number; None where it may not be seen."""
        text = self.settings.get(setting)
        return None if text is None else int(text)


@dataclass(frozen=True)
class GroupFacts:
    """The consumer group and the transactional id.

    refused           the description or the positions are refused, with this error
    members           who is in it, as one would look for them
    positions         committed, of every partition of the input; None: none
    operations        on the group; None where the brokers do not say
    transactional     Describe and Write on the transactional id, as far as granted; None where nobody can say
    """

    refused: str = ""
    members: Sequence[str] = ()
    positions: Mapping[Partition, Position | None] = field(default_factory=dict)
    operations: frozenset[str] | None = None
    transactional_id: str = ""
    transactional: frozenset[str] | None = None


@dataclass(frozen=True)
class TimeLimits:
    """The client's, in milliseconds."""

    transaction_ms: int
    session_ms: int
    heartbeat_ms: int
    poll_ms: int


@dataclass(frozen=True)
class KafkaFacts:
    """All that the brokers say."""

    cluster: ClusterFacts
    topics: Mapping[str, TopicFacts]
    group: GroupFacts

    def topic(self, name: str) -> TopicFacts:
        """A topic's facts; those of one that does not exist where nothing is known of it."""
        return self.topics.get(name, TopicFacts())


@dataclass(frozen=True)
class SampleFacts:
    """The recent part of the input, decoded as the daemon decodes it.

    records        read
    bytes          of their values
    rejected       how many, by reason
    examples       what the first of each reason said
    seen_in        the partitions that each stream was seen in
    spans          by partition: records, and milliseconds from the first to the last of them
    problem        why reading ended early; empty if it did not
    """

    records: int = 0
    bytes: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    seen_in: Mapping[str, Sequence[Partition]] = field(default_factory=dict)
    spans: Mapping[Partition, tuple[int, int]] = field(default_factory=dict)
    problem: str = ""
