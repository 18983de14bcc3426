"""Fit a forecaster: read top to bottom.

Windows of T steps are drawn at random from the training part. Each starts from the ring its own past
fills, the first steps only warm the recurrence up, and pinball loss counts at random origins of the rest.
The weights that are validated and kept are a moving average of those that are optimised. At last the
quantiles' widths are calibrated on the validation part.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from streamer.core.contract import Manifest
from streamer.core.scoring import pinball_loss
from streamer.errors import ConfigError
from training.checkpoint import Fitted
from training.config import Config
from training.data import Series, vocabulary
from training.network import Forecaster
from training.run import Run
from training.stepping import TorchModel, forecasts, targets
from training.windows import Example, Sampler, digest_of, examples_of, statistics_of
from training.workers import Workers, chosen_device, joined

STRETCH_LIMITS = (0.5, 2.0)  # a factor beyond them says that validation is unlike training, not by how much
VALIDATION_FORECASTS = 4000  # enough for a stable mean, few enough to take a second

Watcher = Callable[[int, dict[str, float]], None]  # told of each validation: the step, and its figures by name


def fit(
    config: Config, series: Sequence[Series], console: Console | None = None,
    progress: Path | None = None, resume: bool = False, watcher: Watcher | None = None,
) -> Fitted:  # fmt: skip
    """Train on `series` by `config`; the same seed and data give the same weights on one kind of CPU.

    console   shows a progress bar
    progress  written at each validation; with `resume`, the fit goes on from there. It stays, for the caller to remove
              once what is returned is safe
    watcher   called at each validation

    Raises ConfigError where the data leaves nothing to train or validate on, or `progress` is of another fit.
    """
    torch.set_num_threads(config.training.threads)
    device = chosen_device(config.training.device)
    examples = examples_of(config, series)
    with joined(device) as workers:
        run = _start(config, series, examples, device, workers)
        if resume and progress is not None:
            run.restore(progress)
        manifest = manifest_of(config, vocabulary(series, config.data.static))
        _learn_all(run, manifest, examples, console if workers.rank == 0 else None, progress, watcher)
        if not math.isfinite(run.best):
            raise ConfigError(
                f"training.learning_rate: {config.training.learning_rate} made the loss diverge; choose a smaller one"
            )
        run.averaged.load_state_dict(run.best_weights)
        if "calibration" not in config.model.without:
            calibrate(run.averaged, manifest, examples)
        return replace(Fitted(config, run.averaged.cpu().eval(), manifest, tuple(run.history)), rank=workers.rank)


def _start(
    config: Config, series: Sequence[Series], examples: Sequence[Example], device: torch.device, workers: Workers
) -> Run:
    """Every worker has the same first weights and draws of its own."""
    settings = config.training
    torch.manual_seed(settings.seed)
    words = vocabulary(series, config.data.static)
    network = Forecaster(config, statistics_of(config, examples), words).to(device)
    torch.manual_seed(settings.seed + workers.rank)
    random = np.random.default_rng((settings.seed, workers.rank))
    sampler = Sampler(config, examples, words, random, workers.share(settings.batch))
    return Run(config, network, sampler, workers, digest_of(examples))


def _learn_all(
    run: Run, manifest: Manifest, examples: Sequence[Example], console: Console | None, progress: Path | None,
    watcher: Watcher | None,
) -> None:  # fmt: skip
    """Step until the run is over.

    1. learn from one batch   2. where due: validate, keep the best weights, put the run down
    """
    settings = run.config.training
    wrapped = run.workers.wrap(run.network)
    with _bar(console) as bar:
        task = bar.add_task("fit", total=settings.steps, loss="", completed=run.step, rate="")
        while not run.over:
            run.count(run.learn(wrapped))
            if run.validation_due:
                score = validate(TorchModel(run.averaged, manifest), examples) if run.workers.rank == 0 else math.nan
                run.judge(run.workers.agree(score))
                _, train, validation = run.history[-1]
                if progress is not None:
                    run.save(progress)
                if watcher is not None and run.workers.rank == 0:
                    rate = float(run.schedule.get_last_lr()[0])
                    watcher(run.step, {"loss/train": train, "loss/validation": validation, "learning_rate": rate})
                bar.update(task, loss=f"train {train:.3f} valid {validation:.3f} best {run.best:.3f}")
            speed = bar.tasks[task].speed or 0.0
            steps_per_second = speed * settings.batch * settings.window
            bar.update(task, completed=run.step, rate=f"{steps_per_second / 1000:,.0f} k/s")


def validate(model: TorchModel, examples: Sequence[Example]) -> float:
    """Mean over the streams of the validation part's pinball loss, doubled, in units of a stream's naive error.

    Infinite where a forecast is not finite.
    Raises ConfigError where no stream's validation part holds a forecast.
    """
    levels, losses = np.array(model.manifest.levels), []
    for example, actual, quantiles in _validation(model, examples):
        if not np.isfinite(quantiles).all():
            return math.inf
        losses.append(2 * pinball_loss(actual, quantiles, levels) / example.scale)
    known = [loss for loss in losses if not math.isnan(loss)]
    if not known:
        steps = model.manifest.horizon + 1
        raise ConfigError(
            f"split: the validation part of no stream holds {steps} steps with a value to forecast; move its borders"
        )
    return float(np.mean(known))


def calibrate(network: Forecaster, manifest: Manifest, examples: Sequence[Example]) -> None:
    """Stretch all widths alike, so that the outer levels cover the share of the validation part that they should.

    A network is surer of the windows it was trained on than of later ones. Each actual needs its interval
    stretched by |actual − median| / width to be covered; the factor is the nominal quantile of these.
    Source: Romano, Patterson & Candès (2019), Conformalized Quantile Regression, NeurIPS 32; here as a factor.
    """
    middle, last = network.head.middle, network.head.levels - 1
    if not 0 < middle < last:
        return
    needed = []
    for _, actual, quantiles in _validation(TorchModel(network, manifest), examples):
        lower, median, upper = (quantiles[..., i].astype(float) for i in (0, middle, last))
        error = actual - median
        width = np.where(error > 0, upper - median, median - lower)
        needed.append((np.abs(error) / np.maximum(width, 1e-12 * np.abs(median) + 1e-30))[~np.isnan(actual)])
    factor = np.quantile(np.concatenate(needed), manifest.levels[last] - manifest.levels[0])
    network.head.stretch.mul_(float(np.clip(factor, *STRETCH_LIMITS)))


def _validation(
    model: TorchModel, examples: Sequence[Example]
) -> Iterator[tuple[Example, npt.NDArray[np.float64], npt.NDArray[np.float32]]]:
    """Each stream's actuals (n, H) and quantiles (n, H, Q) from evenly chosen origins of its validation part."""
    horizon = model.manifest.horizon
    asked = [np.arange(max(e.parts.train, 1) - 1, e.parts.validation - horizon) for e in examples]
    stride = max(1, sum(map(len, asked)) // VALIDATION_FORECASTS)
    asked = [a[::stride] for a in asked]
    lead_in = model.network.memory.steps + model.manifest.warmup_steps
    begin = [max(0, e.parts.train - 1 - lead_in) for e in examples]
    pieces: dict[int, list[npt.NDArray[np.float32]]] = {}
    for i, _, quantiles in forecasts(model, [e.series for e in examples], begin, asked):
        pieces.setdefault(i, []).append(quantiles)
    for i, found in sorted(pieces.items()):
        yield examples[i], targets(examples[i].series, asked[i], horizon), np.concatenate(found)


def manifest_of(config: Config, words: dict[str, tuple[str, ...]]) -> Manifest:
    """What a model trained by `config` says of itself; its scores begin with the split that they are of."""
    return Manifest(
        contract=1, name=config.name, version=config.version, cell=config.model.cell,
        grid="regular" if config.step_ms is not None else "per_event", step_ms=config.step_ms,
        offset_ms=config.offset_ms, horizon=config.horizon, levels=config.levels,
        covariates=config.data.covariates, static=words, warmup_steps=(config.seasons or (config.memory_steps,))[-1],
        scores={"split": config.split.model_dump(mode="json")},
    )  # fmt: skip


def _bar(console: Console | None) -> Progress:
    columns = (
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(TextColumn("{task.description}"), *columns, console=console, disable=console is None)
