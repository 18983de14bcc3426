"""What the commands do, once the command line is read."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from streamer.adapters.onnx_session import OnnxModel
from streamer.core.contract import Manifest
from streamer.errors import ConfigError
from streamer.settings import load_settings
from training.ablation import Table, ablate, as_markdown
from training.backtest import backtest, cross_validate
from training.checkpoint import Fitted, load_checkpoint, save_checkpoint
from training.collect import collect
from training.config import Config, Data, Split, config_for, load_config, split_of
from training.cost import cost_of, fitting_speed
from training.data import Series, load_series, parts
from training.export import export
from training.files import data_digest, event_lines
from training.fit import Watcher, fit
from training.problems import problem_table
from training.providers import CUDA, runs_on
from training.report import write_report
from training.stepping import TorchModel, state_bytes

RUNS = Path("runs")  # where checkpoints go unless told otherwise


def run_fit(arguments: argparse.Namespace, console: Console) -> int:
    """Train, score the test part, save the checkpoint, export."""
    config = load_config(arguments.config)
    checkpoint = _place(arguments.checkpoint or RUNS / f"{config.name}.pt")
    output = _place(arguments.output) if arguments.output else None
    path = _data_path(arguments.data or config.data.path, arguments.config)
    series = _load(path, config, console)
    watcher = _tensorboard(arguments.tensorboard) if arguments.tensorboard else None
    progress = checkpoint.with_suffix(".progress")
    fitted = fit(config, series, console, progress, arguments.resume, watcher)
    if fitted.rank:
        return 0
    now, digest = datetime.now(UTC), data_digest(path)
    fitted = fitted.stamped(now, digest, str(path), {})
    save_checkpoint(fitted, checkpoint)  # at once: the fit must survive whatever ends its scoring
    progress.unlink(missing_ok=True)
    fitted = fitted.stamped(now, digest, str(path), _test_scores(fitted, series, console))
    save_checkpoint(fitted, checkpoint)
    console.print(f"checkpoint {checkpoint}: validation loss {fitted.score:.4f} naive errors", highlight=False)
    if output:
        _write(fitted, output, series, console)
    return 0


def run_export(arguments: argparse.Namespace, console: Console) -> int:
    """Write a checkpoint as a model bundle."""
    fitted, path = _fitted(arguments)
    _write(fitted, _place(arguments.output), load_series(path, fitted.config), console)
    return 0


def run_backtest(arguments: argparse.Namespace, console: Console) -> int:
    """Score a model file, or with folds: fit and score a config once per fold."""
    output = _place(arguments.json) if arguments.json not in (None, "-") else None
    if arguments.folds > 1:
        for flag in ("config", "season"):
            if getattr(arguments, flag) is not None:
                raise ConfigError(f"--{flag}: not used with --folds, which takes all from its CONFIG; leave it out")
        config = load_config(arguments.model)
        series = _load(_data_path(arguments.data or config.data.path, arguments.model), config, console)
        result = cross_validate(config, series, arguments.folds, arguments.stride, console)
    else:
        model = OnnxModel(arguments.model)
        config = config_for(model.manifest, load_config(arguments.config) if arguments.config else None)
        path = _data_path(arguments.data or config.data.path, arguments.config or "--data")
        split = _scored_split(model.manifest, config if arguments.config else None, path, console)
        result = backtest(model, load_series(path, config), split, arguments.season, arguments.stride)
    if arguments.json == "-":
        print(json.dumps(result.as_json()))
        return 0
    Console().print(result.table(arguments.per_stream, arguments.per_lead))
    for matrix in result.matrices:
        Console().print(matrix.table())
    if output:
        output.write_text(json.dumps(result.as_json(), indent=1) + "\n")
    return 0


def run_report(arguments: argparse.Namespace, console: Console) -> int:
    """One HTML file about a checkpoint, and its figures as PNGs."""
    fitted, path = _fitted(arguments)
    output = _place(arguments.output)
    series = load_series(path, fitted.config)
    pictures = write_report(fitted, series, output, arguments.stride)
    console.print(f"{output}, and {len(pictures)} figures beside it", highlight=False, soft_wrap=True)
    return 0


def run_ablation(arguments: argparse.Namespace, console: Console) -> int:
    """Fit the config without each of its parts in turn, and write the table."""
    config, output = load_config(arguments.config), _place(arguments.output)
    path = _data_path(arguments.data or config.data.path, arguments.config)
    series = _load(path, config, console)
    subject = {"config": config.model_dump(mode="json"), "data": data_digest(path), "stride": arguments.stride}
    table = Table(_place(RUNS / f"{config.name}.ablation"), subject, arguments.resume)
    command = f"training ablation {arguments.config} --data {Path(path).name} --output {output}"
    for rows in ablate(config, series, arguments.stride, console, table.rows):
        table.add(rows)
        output.write_text(as_markdown(config, table.rows, command))  # as it grows: each row takes a fit
    output.write_text(as_markdown(config, table.rows, command))
    console.print(f"{output}: {len(table.rows)} rows", highlight=False)
    return 0


def run_speed(arguments: argparse.Namespace, console: Console) -> int:
    """Training throughput beside a plain recurrent layer of the same size."""
    config = load_config(arguments.config)
    series = _load(_data_path(arguments.data or config.data.path, arguments.config), config, console)
    ours, plain = fitting_speed(config, series)
    console.print(
        f"training: {ours:,.0f} steps/s; a plain {config.model.cell} of its size: {plain:,.0f} steps/s; "
        f"ratio {ours / plain:.2f}"
    )
    return 0


def run_collect(arguments: argparse.Namespace, console: Console) -> int:
    """A Kafka topic's events in a folder of parquet files."""
    settings = load_settings(arguments.settings, os.environ, required=("input.topics",))
    folder, keep = (
        _place(Path(arguments.output) / "part").parent,
        (_names(arguments.covariates), _names(arguments.static)),
    )
    counts = collect(settings.kafka, settings.input, folder, *keep)
    rejected = ", ".join(f"{reason} {n:,}" for reason, n in counts.items() if reason != "events") or "none"
    console.print(f"{folder}: {counts['events']:,} events; rejected: {rejected}", highlight=False, soft_wrap=True)
    return 0


def run_events(arguments: argparse.Namespace, console: Console) -> int:
    """Event lines on standard output."""
    covariates, static = _names(arguments.covariates), _names(arguments.static)
    columns = Data(
        stream=arguments.stream, ts=arguments.ts, value=arguments.value, covariates=covariates, static=static
    )
    sys.stdout.buffer.writelines(event_lines(arguments.data, columns))
    sys.stdout.flush()
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _load(path: str, config: Config, console: Console) -> list[Series]:
    """The series, after telling what is wrong with them."""
    series = load_series(path, config)
    console.print(f"{len(series)} streams, {sum(map(len, series)):,} steps, for {config.name}@{config.version}")
    if (table := problem_table(series)) is not None:
        console.print(table)
    borders = [parts(s, config.split) for s in series]
    for part, without in (
        ("training", sum(not p.train for p in borders)),
        ("test", sum(p.end == p.validation for p in borders)),
    ):
        if without:
            console.print(f"{without:,} streams are too short, or too late, for a {part} part by this split")
    return series


def _fitted(arguments: argparse.Namespace) -> tuple[Fitted, str]:
    """The checkpoint, and where its data lies."""
    fitted = load_checkpoint(arguments.checkpoint)
    return fitted, _data_path(arguments.data or fitted.data, arguments.checkpoint)


def _scored_split(manifest: Manifest, config: Config | None, path: str, console: Console) -> Split:
    """The split to score by: the config's, else that of the fit; said, since scores of training data mean nothing."""
    noted = split_of(manifest)
    split = config.split if config else noted or Split()
    end = "the end" if split.end is None else split.end
    said = [f"scored: each stream from {split.validation_end} to {end} (a share, steps or a time)"]
    if noted is None:
        said.append("the model does not say by which split it was fitted, so this may be what it was trained on")
    elif split != noted:
        said.append(f"the model was fitted to {noted.train_end} and chosen to {noted.validation_end}, by another split")
    if noted and manifest.data_digest not in (None, data_digest(path)):
        said.append("the data are not those of the fit, so a share, or steps from the end, may lie elsewhere in them")
    for line in said:
        console.print(line, highlight=False, soft_wrap=True)
    return split


def _test_scores(fitted: Fitted, series: Sequence[Series], console: Console) -> dict[str, float]:
    """Of the test part, for the manifest; none where the split leaves no test part."""
    config = fitted.config
    model = TorchModel(fitted.network, fitted.manifest)
    try:
        result = backtest(model, series, config.split, stride=config.horizon // 2 + 1)
    except ConfigError:
        return {}
    console.print(result.table())
    return {f"test_{name}": value for name, value in result.summary().items()}


def _write(fitted: Fitted, output: Path, series: Sequence[Series], console: Console) -> None:
    difference = export(fitted, output, series)
    size = output.stat().st_size
    console.print(
        f"{output}: {size / 1024:,.0f} KiB, {state_bytes(fitted.network)} bytes of state per stream; torch and "
        f"onnxruntime agree to {difference.forecast:.1g}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    on_cuda = runs_on(CUDA, output, TorchModel(fitted.network, fitted.manifest), series)
    for line in (on_cuda, *cost_of(output, fitted.config)):
        console.print(line, highlight=False, soft_wrap=True)


def _tensorboard(folder: str) -> Watcher:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError(
            "--tensorboard: not installed; do `pip install '.[tensorboard]'` in a clone of Tidecast"
        ) from None
    writer = SummaryWriter(folder)

    def watch(step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return watch


def _place(path: str | Path) -> Path:
    """Where a file will be written, its folder made: known to be possible before hours of work depend on it."""
    place = Path(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{place}: its folder cannot be made: {error.strerror}; name another file") from None
    if place.is_dir():
        raise ConfigError(f"{place}: expected a file to write, found a folder; name a file in it")
    if not os.access(place.parent, os.W_OK):
        raise ConfigError(f"{place}: its folder may not be written to; name another file")
    return place


def _data_path(path: str | None, where: str) -> str:
    if path is None:
        raise ConfigError(f"{where}: data.path: no data; name a file there or with --data")
    return path
