"""`streamer doctor`: gather the facts, hold every check against them, print a line for each finding."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from streamer.delivery import LogReader
from streamer.doctor.cluster import check_limits, check_offsets_retention, check_restore, check_versions
from streamer.doctor.facts import KafkaFacts, ModelFacts, Names, SampleFacts, TimeLimits
from streamer.doctor.findings import Finding, Level, ok, warn
from streamer.doctor.gathering import LoadedModel, model_facts, sample_input
from streamer.doctor.group import check_group
from streamer.doctor.model import check_memory, check_model
from streamer.doctor.permissions import check_permissions
from streamer.doctor.records import check_retention, check_sizes, check_times
from streamer.doctor.sample import check_identity, check_sample, remind
from streamer.doctor.topics import check_changelog, check_copies, check_existence, check_partitions
from streamer.errors import ConfigError, ContractError
from streamer.settings import Settings


@dataclass(frozen=True)
class Instruments:
    """How the doctor sees the world.

    load_model    raises ConfigError, ContractError
    time_limits   the client's; raises ConfigError for options it does not take
    inspect       what the brokers say; raises ConfigError where none answers
    reader        for the sample
    memory_bytes  of this machine
    """

    load_model: Callable[[], LoadedModel]
    time_limits: Callable[[], TimeLimits]
    inspect: Callable[[Names], KafkaFacts]
    reader: LogReader
    memory_bytes: int


def diagnose(settings: Settings, instruments: Instruments, write: Callable[[str], None] = print) -> bool:
    """Write every finding, one a line, as it is made; whether the daemon can run."""
    levels = set()
    for finding in examine(settings, instruments):
        write(str(finding))
        levels.add(finding.level)
    return Level.FAIL not in levels


def examine(settings: Settings, instruments: Instruments) -> Iterator[Finding]:
    """Every check, in the order in which one would mend what it finds."""
    yield ok("settings", "every name is known and every value can be used")
    names = Names.of(settings)
    model: LoadedModel | None = None
    facts: ModelFacts | None = None
    try:
        model = instruments.load_model()
        facts = model_facts(model, settings)
    except (ConfigError, ContractError) as error:
        yield from (Finding(Level.FAIL, *_subject(line, "model.path")) for line in str(error).splitlines())
    if facts is not None:
        yield from check_model(facts)
        yield from check_memory(facts, settings.state.max_streams, instruments.memory_bytes)
    try:
        limits = instruments.time_limits()
        kafka = instruments.inspect(names)
    except ConfigError as error:
        yield Finding(Level.FAIL, *_subject(str(error), "brokers"))
        yield warn(
            "topics, group and input", "not looked at, as no broker can be asked", "mend the above, and run again"
        )
        return
    if model is not None and facts is not None:
        sample = sample_input(instruments.reader, model.manifest, settings, names, kafka)
    else:
        sample = SampleFacts(problem="without its model there is no saying what an event must hold")
    yield from _checks(settings, names, kafka, facts, limits, sample)


def _checks(
    settings: Settings,
    names: Names,
    kafka: KafkaFacts,
    model: ModelFacts | None,
    limits: TimeLimits,
    sample: SampleFacts,
) -> Iterator[Finding]:
    group_id = settings.kafka.group_id
    yield from check_versions(kafka.cluster, settings.kafka.bootstrap_servers)
    yield from check_existence(names, kafka)
    yield from check_partitions(names, kafka)
    for name in names.changelogs.values():
        yield from check_changelog(name, kafka.topic(name))
    yield from check_copies(names, kafka)
    yield from check_permissions(names, kafka, group_id)
    yield from check_limits(limits, kafka.cluster)
    yield from check_sizes(names, kafka, model, settings.input)
    yield from check_times(names, kafka, settings.input)
    yield from check_retention(
        names, kafka, sample, settings.state.max_replay_events, settings.state.warm_from_input_steps
    )
    yield from check_offsets_retention(names, kafka.cluster, kafka)
    yield from check_restore(names, kafka)
    yield from check_group(names, kafka, group_id)
    yield from check_sample(names, sample)
    yield from check_identity(sample)
    yield remind(names)


def _subject(message: str, otherwise: str) -> tuple[str, str]:
    """An error's message as a subject and what was found."""
    subject, separator, found = message.partition(": ")
    return (subject, found) if separator and " " not in subject else (otherwise, message)
