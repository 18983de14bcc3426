"""The command line: fit, export, backtest, report, ablation, speed, collect, events."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from streamer.errors import StreamerError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 2 where a setting, file or model cannot be used."""
    parser = _parser()
    arguments, settings = parser.parse_known_args(argv)
    if settings and arguments.command != "collect":
        parser.error(f"unrecognized arguments: {' '.join(settings)}")
    arguments.settings = settings
    console = Console(stderr=True)
    try:
        from training import commands  # torch takes seconds to import, and `--help` needs none of it

        status: int = getattr(commands, f"run_{arguments.command}")(arguments, console)
    except StreamerError as error:
        console.print(f"{type(error).__name__}: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    except BrokenPipeError:  # the reader of our output has gone, as in `… | head`
        sys.stderr.close()
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="training", description="Train, check and export forecasting models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_fit(commands)
    _add_backtest(commands)

    export = commands.add_parser("export", help="write a checkpoint as an ONNX model bundle")
    export.add_argument("checkpoint", metavar="CHECKPOINT")
    export.add_argument("--output", metavar="MODEL.onnx", required=True)
    _add_data(export, "sequences to compare torch and onnxruntime on; default: the fit's")

    report = commands.add_parser("report", help="one HTML file of a fit: losses, scores, calibration, forecasts")
    report.add_argument("checkpoint", metavar="CHECKPOINT")
    report.add_argument("--output", metavar="REPORT.html", required=True)
    _add_data(report, "tidy data; default: the fit's")
    _add_stride(report)

    ablation = commands.add_parser("ablation", help="fit a config without each of its parts, and write a table")
    ablation.add_argument("config", metavar="CONFIG")
    ablation.add_argument("--output", metavar="TABLE.md", required=True)
    ablation.add_argument("--resume", action="store_true", help="go on with the table that was cut short")
    _add_data(ablation)
    _add_stride(ablation)

    speed = commands.add_parser("speed", help="training throughput beside a plain recurrent layer of the same size")
    speed.add_argument("config", metavar="CONFIG")
    _add_data(speed)
    _add_events(commands)
    return parser


def _add_fit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    fit = commands.add_parser("fit", help="train a model by a YAML file of settings, and export it")
    fit.add_argument("config", metavar="CONFIG", help="YAML file; see configs/training")
    _add_data(fit)
    fit.add_argument("--output", metavar="MODEL.onnx", help="export here after training")
    fit.add_argument("--checkpoint", metavar="FILE", help="default: runs/NAME.pt")
    fit.add_argument("--resume", action="store_true", help="go on with the fit that was cut short")
    fit.add_argument("--tensorboard", metavar="FOLDER", help="write losses for TensorBoard here")


def _add_backtest(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    backtest = commands.add_parser("backtest", help="score forecasts over the test part, beside naive ones")
    backtest.add_argument("model", metavar="MODEL.onnx|CONFIG", help="a model; with --folds the config to fit")
    backtest.add_argument(
        "--config", metavar="CONFIG", help="settings for data, split and season; default: the split of the fit"
    )
    backtest.add_argument(
        "--folds", type=_positive, default=1, metavar="K", help="cut the test part in K, and fit anew before each"
    )
    backtest.add_argument(
        "--season", type=_positive, metavar="STEPS", help="of seasonal naive and MASE; default: a day's steps"
    )
    backtest.add_argument("--per-stream", action="store_true", help="a row per stream in the table")
    backtest.add_argument("--per-lead", action="store_true", help="a row per lead in the table")
    backtest.add_argument("--json", metavar="FILE", help="also write every score (`-`: standard output)")
    _add_data(backtest)
    _add_stride(backtest)


def _add_events(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    collect = commands.add_parser(
        "collect", help="write a Kafka topic as tidy parquet; also takes the flags of `streamer run`, and --config"
    )
    collect.add_argument("--output", metavar="FOLDER", required=True)
    collect.add_argument("--covariates", default="", metavar="A,B", help="to keep, besides those input.fields maps")
    collect.add_argument("--static", default="", metavar="A,B", help="to keep, besides those input.fields maps")

    events = commands.add_parser(
        "events", help="tidy data as the event lines `streamer replay` reads, on standard output"
    )
    events.add_argument("data", metavar="FILE")
    events.add_argument("--covariates", default="", metavar="A,B", help="columns to send as covariates")
    events.add_argument("--static", default="", metavar="A,B", help="columns to send as static categories")
    for name in ("stream", "ts", "value"):
        events.add_argument(f"--{name}", default=name, metavar="COLUMN", help=f"the column that is the {name}")


def _add_data(
    parser: argparse.ArgumentParser, text: str = "tidy data (parquet, CSV, JSONL), instead of the settings' data.path"
) -> None:
    parser.add_argument("--data", metavar="FILES", help=f"{text}; a file, a folder, or a pattern such as '*.csv'")


def _add_stride(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stride", type=_positive, default=1, metavar="K", help="forecast from every K-th origin")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
