"""The command line: reads the settings and wires the parts; nothing else does."""

import argparse
import gc
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from streamer import __version__, logs
from streamer.adapters.files import STANDARD, open_input, open_output, read_records
from streamer.adapters.forecast_text import forecast_writer
from streamer.adapters.http import HttpServer
from streamer.adapters.kafka_python import KafkaPythonClient, KafkaPythonLogReader
from streamer.adapters.kafka_python.cluster import KafkaPythonCluster
from streamer.adapters.kafka_python.feed import feed
from streamer.adapters.kafka_python.inspection import inspect, time_limits
from streamer.adapters.kafka_python.resetting import KafkaPythonGroup
from streamer.adapters.kafka_python.topics import create_topics
from streamer.adapters.machine import give_back_memory, memory_bytes
from streamer.adapters.metrics import Metrics
from streamer.adapters.onnx_session import OnnxModel
from streamer.adapters.timed_model import TimedModel
from streamer.assembly import encoder_for, engine_for
from streamer.checkpoint import Checkpoint, SnapshotPolicy, Topics
from streamer.core.contract import Block
from streamer.core.snapshot import SnapshotFormat
from streamer.daemon import Clocks, Daemon
from streamer.delivery import KafkaClient, LogReader
from streamer.demo.command import keyed_events, run_demo, write_events
from streamer.doctor import Instruments, diagnose
from streamer.errors import ConfigError, ContractError, StreamerError
from streamer.questions import ask_beside
from streamer.replay import refuse_record_fields, replay
from streamer.restore import Restore, RestorePolicy
from streamer.settings import HttpSettings, ModelSettings, Settings, flags_help, load_settings
from streamer.state import reset, show
from streamer.stopping import stop_signal
from streamer.tasks import Task, changelog_of
from streamer.watchdog import Watchdog, end_process
from streamer.workers import PREDECESSOR_SECONDS, Workers, check_workers, end_with_parent, of_worker, worker_command

COLLECT_AFTER_OBJECTS = 100_000
EXIT_OK, EXIT_FAILED, EXIT_REFUSED = 0, 1, 2
REQUIRED_FOR_STATE = ("kafka.group_id", "input.topics")
READ_BY_REPLAY = ("model", "input", "output", "state")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 2 where a setting or a model was refused, 1 where Kafka was."""
    parser = _parser()
    options, settings_flags = parser.parse_known_args(arguments)
    try:
        status: int = options.command(options, settings_flags)
    except (ConfigError, ContractError) as error:
        print(f"streamer {options.name}: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except StreamerError as error:
        logs.log("failed", logging.ERROR, error=str(error))
        return EXIT_FAILED
    except BrokenPipeError:  # the reader of our standard output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="streamer", description="Streaming forecasts from Kafka event streams.")
    parser.add_argument("--version", action="version", version=f"tidecast {__version__}")
    commands = parser.add_subparsers(required=True, dest="name", metavar="COMMAND")

    command = commands.add_parser(
        "run",
        allow_abbrev=False,
        help="the daemon: forecast a Kafka topic until stopped",
        usage="%(prog)s [--config FILE.yaml] [--workers N] [--SETTING VALUE ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="settings, which the file and STREAMER_ variables can hold too (docs/configuration.md):\n"
        + flags_help(),
    )
    command.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="run N processes as members of one group, one per core (docs/operations.md)",
    )
    command.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # which of them this process is
    command.set_defaults(command=_run)

    command = commands.add_parser(
        "replay",
        allow_abbrev=False,
        help="forecast the events of a file, no broker needed",
        epilog="also takes --config FILE.yaml and the --model, --input, --output and --state.* flags of `streamer run`",
    )
    command.add_argument("--model", required=True, metavar="MODEL.onnx", help="the model")
    command.add_argument(
        "--input", required=True, metavar="EVENTS.jsonl", help="event lines; .gz is unpacked; - is stdin"
    )
    command.add_argument("--output", required=True, metavar="FORECASTS.jsonl", help="forecast lines; - is stdout")
    command.set_defaults(command=_replay)

    _add_demo(commands.add_parser("demo", allow_abbrev=False, help="forecast, score and draw a year of real weather"))

    topics = commands.add_parser("topics", help="the Kafka topics that the settings name")
    command = topics.add_subparsers(required=True, dest="verb", metavar="VERB").add_parser(
        "create", allow_abbrev=False, help="create those that do not exist"
    )
    command.add_argument("--partitions", type=int, default=3, metavar="N", help="of each topic created (3)")
    command.add_argument(
        "--replication", type=int, default=-1, metavar="N", help="copies; the broker's default if absent"
    )
    command.set_defaults(command=_create_topics)

    command = commands.add_parser(
        "doctor",
        allow_abbrev=False,
        help="check everything the daemon needs, and say what to do about what is missing",
        epilog="takes --config FILE.yaml and the flags of `streamer run`; exits with 1 if a check fails",
    )
    command.set_defaults(command=_doctor)
    _add_state(commands.add_parser("state", help="what is saved of the streams"))
    return parser


def _add_demo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", type=Path, metavar="FOLDER", help="where files are written (demo-output)")
    command.add_argument("--events", action="store_true", help="only print the demo's event lines")
    command.add_argument("--keyed", action="store_true", help="with --events: the stream id and a tab before each")
    command.add_argument("--produce", metavar="TOPIC", help="only append the demo's events to a Kafka topic")
    command.set_defaults(command=_demo)


def _add_state(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, dest="verb", metavar="VERB")
    settings = "takes --config FILE.yaml and the --kafka.* and --input.* flags of `streamer run`"
    command = verbs.add_parser("show", allow_abbrev=False, help="one stream's last snapshot", epilog=settings)
    command.add_argument("stream", metavar="STREAM", help="its id")
    command.set_defaults(command=_show_state)
    command = verbs.add_parser(
        "reset", allow_abbrev=False, help="make every stream of the group start fresh", epilog=settings
    )
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.set_defaults(command=_reset_state)


def _run(options: argparse.Namespace, flags: Sequence[str]) -> int:
    settings = load_settings(flags, os.environ)
    logs.set_up(options.worker)
    if options.workers is not None:
        check_workers(settings, options.workers)
        return Workers(options.workers, partial(worker_command, flags)).run()
    if options.worker is not None:
        settings = of_worker(settings, options.worker)
        end_with_parent()
    _serve(settings, is_worker=options.worker is not None)
    return EXIT_OK


def _serve(settings: Settings, is_worker: bool) -> None:
    """Be the daemon until a signal."""
    model = _model(settings.model)
    metrics = Metrics(max_streams=settings.state.max_streams, memory_bytes=memory_bytes())
    metrics.model.serving(model.manifest, model.fingerprint, model.providers)

    def on_block(block: Block, seconds: float) -> None:
        metrics.model.block_advanced(block, seconds)
        metrics.process.turned()  # a batch of long gaps takes its time, and is no standstill

    engine = engine_for(TimedModel(model, on_block), settings.input, settings.state, settings.output.every, model.hold)
    format_ = SnapshotFormat(model.fingerprint, model.signature.states, len(model.manifest.static))
    group = settings.kafka.group_id
    topics = Topics(settings.output.topic, settings.output.dead_letter_topic, partial(changelog_of, group))
    encoder = encoder_for(model.manifest, settings.output, forecast_writer())
    state = settings.state
    policy = SnapshotPolicy(state.snapshot_interval_seconds, state.snapshot_share, state.max_replay_events)
    checkpoint = Checkpoint(engine, encoder, format_, topics, policy)
    client, reader = _kafka(settings)

    told = metrics.state
    rules = RestorePolicy(group, state.warm_from_input_steps, told.reset, told.rebuilt, told.input_lost, ask_beside)

    def restoring(task: Task) -> Restore:
        return Restore(task, rules, client, reader, engine, format_)

    interval = settings.delivery.commit_interval_seconds
    daemon = Daemon(engine, client, checkpoint, restoring, metrics, interval, Clocks(settled=give_back_memory))
    watchdog = Watchdog(lambda: metrics.process.seconds_since_turn() if daemon.started else 0.0, end_process)
    _collect_seldom()
    stop = stop_signal(lambda: daemon.started, is_worker)
    patience_seconds = PREDECESSOR_SECONDS if is_worker else 0.0
    with _http(settings.http, metrics, daemon, patience_seconds), watchdog.watching():
        daemon.run(stop)


def _collect_seldom() -> None:
    """Look for cycles of garbage every few batches only: each makes tens of thousands of objects, none of them in one.

    By default they are looked for every 700 objects, and what was there at the start each time that its share of all
    has shrunk; that took 8 % of a prototype's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS)


def _model(given: ModelSettings) -> OnnxModel:
    return OnnxModel(given.path, given.providers, given.threads, given.cpu_fallback)


def _kafka(settings: Settings) -> tuple[KafkaClient, LogReader]:
    """The client that `kafka.client` names, and the reader of logs beside it."""
    kafka, events, output = settings.kafka, settings.input, settings.output
    if kafka.client == "kafka-python":
        return KafkaPythonClient(kafka, events, output), KafkaPythonLogReader(kafka)
    try:
        from streamer.adapters.librdkafka import LibrdkafkaClient, LibrdkafkaLogReader
    except ImportError as problem:
        raise ConfigError(
            f"kafka.client: found 'confluent', but confluent-kafka is not installed ({problem}); "
            "do `pip install '.[fast]'` in a clone of Tidecast (its image has it), or take kafka-python"
        ) from None
    return LibrdkafkaClient(kafka, events, output, KafkaPythonCluster(kafka, events, output)), LibrdkafkaLogReader(
        kafka
    )


@contextmanager
def _http(settings: HttpSettings, metrics: Metrics, daemon: Daemon, patience_seconds: float) -> Iterator[None]:
    """Metrics and probes while the daemon lives; none on port 0."""
    if not settings.port:
        yield
        return
    host, port, registry = settings.host, settings.port, metrics.registry
    server = HttpServer(host, port, registry, daemon.healthy, daemon.ready, patience_seconds)
    server.start()
    try:
        yield
    finally:
        server.stop()


def _replay(options: argparse.Namespace, flags: Sequence[str]) -> int:
    settings = load_settings(["--model.path", options.model, *flags], os.environ, required=(), reads=READ_BY_REPLAY)
    refuse_record_fields(settings.input.fields)
    model = _model(settings.model)
    engine = engine_for(model, settings.input, settings.state, settings.output.every, model.hold)
    name = "stdin" if options.input == STANDARD else Path(options.input).name
    encoder = encoder_for(model.manifest, settings.output, forecast_writer())
    with open_input(options.input) as source, open_output(options.output, options.input) as sink:
        tally = replay(engine, encoder, read_records(source, name, settings.input.max_record_bytes), sink)
    print(tally, file=sys.stderr)
    return EXIT_OK


def _demo(options: argparse.Namespace, flags: Sequence[str]) -> int:
    settings = load_settings(flags, os.environ, required=(), reads=("kafka",) if options.produce else ())
    _refuse_unused(options)
    if options.produce:
        count = feed(settings.kafka, options.produce, keyed_events())
        print(f"{count:,} events appended to {options.produce}")
    elif options.events:
        with open_output(STANDARD, STANDARD) as sink:
            write_events(sink, options.keyed)
    else:
        run_demo(options.output or Path("demo-output"))
    return EXIT_OK


def _refuse_unused(options: argparse.Namespace) -> None:
    """Raises ConfigError for options of `streamer demo` of which one leaves another without effect."""
    if options.keyed and not options.events:
        raise ConfigError("--keyed: found without --events, expected with it; add --events, or remove it")
    doing = [flag for flag, given in (("--events", options.events), ("--produce", options.produce)) if given]
    doing += ["--output"] if options.output and doing else []
    if len(doing) > 1:
        raise ConfigError(f"{doing[1]}: found with {doing[0]}, of which only one has an effect; remove one")


def _create_topics(options: argparse.Namespace, flags: Sequence[str]) -> int:
    settings = load_settings(flags, os.environ, required=("input.topics",), reads=("input", "output", "kafka"))
    topics = [*settings.input.topics, settings.output.topic]
    topics += [settings.output.dead_letter_topic] if settings.output.dead_letter_topic else []
    created = create_topics(settings.kafka, topics, options.partitions, options.replication)
    for topic in topics:
        print(f"{topic}: {f'created, {options.partitions} partitions' if topic in created else 'exists'}")
    return EXIT_OK


def _doctor(_options: argparse.Namespace, flags: Sequence[str]) -> int:
    settings = load_settings(flags, os.environ)
    kafka, model = settings.kafka, settings.model
    with closing(KafkaPythonLogReader(kafka)) as reader:
        instruments = Instruments(
            load_model=lambda: _model(model),
            time_limits=lambda: time_limits(kafka),
            inspect=lambda names: inspect(kafka, names.inputs, [n for n in names.all if n not in names.inputs]),
            reader=reader,
            memory_bytes=memory_bytes(),
        )
        return EXIT_OK if diagnose(settings, instruments) else EXIT_FAILED


def _show_state(options: argparse.Namespace, flags: Sequence[str]) -> int:
    settings = load_settings(flags, os.environ, required=REQUIRED_FOR_STATE, reads=("model", "input", "kafka"))
    given = settings.model
    model = _model(given) if given.path else None
    with closing(KafkaPythonLogReader(settings.kafka)) as reader:
        found = show(options.stream, settings, KafkaPythonGroup(settings.kafka), reader, model)
    return EXIT_OK if found else EXIT_FAILED


def _reset_state(options: argparse.Namespace, flags: Sequence[str]) -> int:
    settings = load_settings(flags, os.environ, required=REQUIRED_FOR_STATE, reads=("input", "kafka"))
    confirm = (lambda: True) if options.yes else _asked
    with closing(KafkaPythonLogReader(settings.kafka)) as reader:
        done = reset(settings, KafkaPythonGroup(settings.kafka), reader, confirm)
    return EXIT_OK if done else EXIT_FAILED


def _asked() -> bool:
    try:
        return input("go on? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


if __name__ == "__main__":
    sys.exit(main())
