"""The command line: reads the settings and wires the parts; nothing else does."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from streamer import __version__
from streamer.adapters.files import STANDARD, open_input, open_output, read_records
from streamer.adapters.onnx_session import OnnxModel
from streamer.assembly import engine_for
from streamer.errors import ConfigError, ContractError
from streamer.replay import replay
from streamer.settings import load_settings

EXIT_OK, EXIT_REFUSED = 0, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 2 where a setting or a model was refused."""
    parser = _parser()
    options, settings_flags = parser.parse_known_args(arguments)
    try:
        status: int = options.command(options, settings_flags)
    except (ConfigError, ContractError) as error:
        print(f"streamer {options.name}: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except BrokenPipeError:  # the reader of our standard output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="streamer", description="Streaming forecasts from Kafka event streams.")
    parser.add_argument("--version", action="version", version=f"tidecast {__version__}")
    commands = parser.add_subparsers(required=True, dest="name", metavar="COMMAND")

    command = commands.add_parser("replay", allow_abbrev=False, help="forecast the events of a file, no broker needed")
    command.add_argument("--model", required=True, metavar="MODEL.onnx", help="the model")
    command.add_argument(
        "--input", required=True, metavar="EVENTS.jsonl", help="event lines; .gz is unpacked; - is stdin"
    )
    command.add_argument("--output", required=True, metavar="FORECASTS.jsonl", help="forecast lines; - is stdout")
    command.set_defaults(command=_replay)
    return parser


def _replay(options: argparse.Namespace, flags: Sequence[str]) -> int:
    settings = load_settings(["--model.path", options.model, *flags], os.environ, required=())
    model = OnnxModel(settings.model.path, settings.model.providers, settings.model.threads)
    engine = engine_for(model, settings.input, settings.state)
    name = "stdin" if options.input == STANDARD else Path(options.input).name
    with open_input(options.input) as source, open_output(options.output, options.input) as sink:
        tally = replay(engine, read_records(source, name, settings.input.max_record_bytes), sink)
    print(tally, file=sys.stderr)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
