"""The command line: fit, export, backtest, events."""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from streamer.errors import ConfigError, StreamerError

if TYPE_CHECKING:
    from training.checkpoint import Fitted
    from training.data import Series

RUNS = Path("runs")  # where checkpoints go unless told otherwise


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 2 where a setting, file or model cannot be used."""
    arguments = _parser().parse_args(argv)
    console = Console(stderr=True)
    try:
        status: int = arguments.run(arguments, console)
    except StreamerError as error:
        console.print(f"{type(error).__name__}: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    except BrokenPipeError:  # the reader of our output has gone, as in `… | head`
        sys.stderr.close()
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="training", description="Train, check and export forecasting models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    fit = commands.add_parser("fit", help="train a model by a YAML file of settings, and export it")
    fit.add_argument("config", metavar="CONFIG", help="YAML file; see configs/training")
    fit.add_argument(
        "--data", metavar="FILE", help="tidy data (parquet, CSV, JSONL), instead of the settings' data.path"
    )
    fit.add_argument("--output", metavar="MODEL.onnx", help="export here after training")
    fit.add_argument("--checkpoint", metavar="FILE", help="default: runs/NAME.pt")
    fit.set_defaults(run=_fit)

    export = commands.add_parser("export", help="write a checkpoint as an ONNX model bundle")
    export.add_argument("checkpoint", metavar="CHECKPOINT")
    export.add_argument("--output", metavar="MODEL.onnx", required=True)
    export.add_argument(
        "--data", metavar="FILE", help="sequences to compare torch and onnxruntime on; default: the fit's"
    )
    export.set_defaults(run=_export)

    backtest = commands.add_parser("backtest", help="score a model's forecasts over the test part of its data")
    backtest.add_argument("model", metavar="MODEL.onnx")
    backtest.add_argument(
        "--config", metavar="CONFIG", help="settings for data, split and season; default: the data's own"
    )
    backtest.add_argument("--data", metavar="FILE", help="tidy data, instead of the settings' data.path")
    backtest.add_argument("--stride", type=_positive, default=1, metavar="K", help="forecast from every K-th origin")
    backtest.add_argument(
        "--season", type=_positive, metavar="STEPS", help="of seasonal naive and MASE; default: a day's steps"
    )
    backtest.add_argument("--per-stream", action="store_true", help="a row per stream in the table")
    backtest.add_argument("--json", metavar="FILE", help="also write the scores of every stream (`-`: standard output)")
    backtest.set_defaults(run=_backtest)

    events = commands.add_parser(
        "events", help="tidy data as the event lines `streamer replay` reads, on standard output"
    )
    events.add_argument("data", metavar="FILE")
    events.add_argument("--covariates", default="", metavar="A,B", help="columns to send as covariates")
    events.add_argument("--static", default="", metavar="A,B", help="columns to send as static categories")
    for name in ("stream", "ts", "value"):
        events.add_argument(f"--{name}", default=name, metavar="COLUMN", help=f"the column that is the {name}")
    events.set_defaults(run=_events)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {number}")
    return number


def _fit(arguments: argparse.Namespace, console: Console) -> int:
    from training.checkpoint import save_checkpoint
    from training.config import load_config  # torch takes seconds to import, and `--help` needs none of it
    from training.data import data_digest, load_series
    from training.fit import fit

    config = load_config(arguments.config)
    path = _data_path(arguments.data or config.data.path, arguments.config)
    series = load_series(path, config)
    console.print(f"{len(series)} streams, {sum(map(len, series)):,} steps, trained as {config.name}@{config.version}")
    fitted = fit(config, series, console).stamped(datetime.now(UTC), data_digest(path), str(path))
    checkpoint = Path(arguments.checkpoint or RUNS / f"{config.name}.pt")
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(fitted, checkpoint)
    console.print(f"checkpoint {checkpoint}: validation loss {fitted.score:.4f} naive errors", highlight=False)
    if arguments.output:
        _write(fitted, arguments.output, series, console)
    return 0


def _export(arguments: argparse.Namespace, console: Console) -> int:
    from training.checkpoint import load_checkpoint
    from training.data import load_series

    fitted = load_checkpoint(arguments.checkpoint)
    path = _data_path(arguments.data or fitted.data, arguments.checkpoint)
    _write(fitted, arguments.output, load_series(path, fitted.config), console)
    return 0


def _write(fitted: "Fitted", output: str, series: "list[Series]", console: Console) -> None:
    from training.export import export
    from training.stepping import state_bytes

    difference = export(fitted, output, series)
    size = Path(output).stat().st_size
    console.print(
        f"{output}: {size / 1024:,.0f} KiB, {state_bytes(fitted.network)} bytes of state per stream; torch and "
        f"onnxruntime agree to {difference.forecast:.1g}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _backtest(arguments: argparse.Namespace, console: Console) -> int:
    from streamer.adapters.onnx_session import OnnxModel
    from training.backtest import backtest
    from training.config import config_for, load_config
    from training.data import load_series

    model = OnnxModel(arguments.model)
    config = config_for(model.manifest, load_config(arguments.config) if arguments.config else None)
    path = _data_path(arguments.data or config.data.path, arguments.config or "--data")
    season = arguments.season or (config.seasons or (1,))[0]
    result = backtest(model, load_series(path, config), config.split, season, arguments.stride)
    if arguments.json == "-":
        print(json.dumps(result.as_json()))
        return 0
    Console().print(result.table(arguments.per_stream))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result.as_json(), indent=1) + "\n")
    return 0


def _events(arguments: argparse.Namespace, console: Console) -> int:
    from training.config import Data
    from training.data import event_lines

    covariates, static = (tuple(filter(None, text.split(","))) for text in (arguments.covariates, arguments.static))
    columns = Data(
        stream=arguments.stream, ts=arguments.ts, value=arguments.value, covariates=covariates, static=static
    )
    sys.stdout.buffer.writelines(event_lines(arguments.data, columns))
    sys.stdout.flush()
    return 0


def _data_path(path: str | None, where: str) -> str:
    if path is None:
        raise ConfigError(f"{where}: data.path: no data; name a file there or with --data")
    return path


if __name__ == "__main__":
    sys.exit(main())
