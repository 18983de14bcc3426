"""Fit a forecaster: read top to bottom.

Windows of T steps are drawn at random from the training part. Each starts from the ring its own past
fills, the first steps only warm the recurrence up, and pinball loss counts at random origins of the rest.
The weights that are validated and kept are a moving average of those that are optimised. At last the
quantiles' widths are calibrated on the validation part.
"""

import copy
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from streamer.core.contract import Manifest
from streamer.core.scoring import pinball_loss
from streamer.errors import ConfigError
from training.checkpoint import Fitted
from training.config import Config
from training.data import Series, vocabulary
from training.network import Forecaster
from training.stepping import TorchModel, forecasts, targets
from training.windows import Batch, Example, Sampler, examples_of, statistics_of

STRETCH_LIMITS = (0.5, 2.0)  # a factor beyond them says that validation is unlike training, not by how much
VALIDATION_FORECASTS = 4000  # enough for a stable mean, few enough to take a second


def fit(config: Config, series: Sequence[Series], console: Console | None = None) -> Fitted:
    """Train on `series` by `config`; the same seed and data give the same weights on one kind of CPU.

    Raises ConfigError where the data leaves nothing to train or validate on.
    """
    settings = config.training
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    random = np.random.default_rng(settings.seed)
    examples = examples_of(config, series)
    words = vocabulary(series, config.data.static)
    network = Forecaster(config, statistics_of(config, examples), words)
    manifest = manifest_of(config, words)
    averaged = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine(step, settings.steps))
    sampler = Sampler(config, examples, words, random)
    levels = torch.tensor(config.levels)

    history: list[tuple[int, float, float]] = []
    best, best_weights, waited, running = math.inf, copy.deepcopy(averaged.state_dict()), 0, 0.0
    with _progress(console) as progress:
        task = progress.add_task("fit", total=settings.steps, loss="")
        for step in range(1, settings.steps + 1):
            running += _learn(network, sampler.draw(network), levels, optimizer, settings.clip)
            schedule.step()
            _average(averaged, network, min(settings.average, step / (step + 10)))
            if step % settings.validate_every == 0 or step == settings.steps:
                since = step - (history[-1][0] if history else 0)
                score = validate(TorchModel(averaged, manifest), examples)
                history.append((step, running / since, score))
                running = 0.0
                if score < best:
                    best, best_weights, waited = score, copy.deepcopy(averaged.state_dict()), 0
                else:
                    waited += 1
                progress.update(task, loss=f"train {history[-1][1]:.4f}  validation {score:.4f}  best {best:.4f}")
            progress.update(task, completed=step)
            if waited >= settings.patience:
                break
    if not math.isfinite(best):
        raise ConfigError(
            f"training.learning_rate: {settings.learning_rate} made the loss diverge; choose a smaller one"
        )
    averaged.load_state_dict(best_weights)
    calibrate(averaged, manifest, examples)
    return Fitted(config, averaged.eval(), manifest, tuple(history))


def _learn(network: Forecaster, batch: Batch, levels: Tensor, optimizer: torch.optim.Optimizer, clip: float) -> float:
    """One optimiser step on one batch; returns its loss."""
    network.train()
    quantiles, _ = network(*batch.inputs)
    loss = _loss(quantiles, batch.actual, batch.scale, levels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimizer.step()
    return loss.item()


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
        raise ConfigError(f"split: the validation part of no stream holds {steps} steps; move its borders")
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
    asked = [np.arange(e.parts.train - 1, e.parts.validation - horizon) for e in examples]
    stride = max(1, sum(map(len, asked)) // VALIDATION_FORECASTS)
    asked = [a[::stride] for a in asked]
    lead_in = model.network.memory.steps + model.manifest.warmup_steps
    begin = [max(0, e.parts.train - 1 - lead_in) for e in examples]
    pieces: dict[int, list[npt.NDArray[np.float32]]] = {}
    for i, _, quantiles in forecasts(model, [e.series for e in examples], begin, asked):
        pieces.setdefault(i, []).append(quantiles)
    for i, found in sorted(pieces.items()):
        yield examples[i], targets(examples[i].series, asked[i], horizon), np.concatenate(found)


def _loss(quantiles: Tensor, actual: Tensor, scale: Tensor, levels: Tensor) -> Tensor:
    """Mean pinball loss, doubled, in units of each stream's naive error; missing actuals count nothing."""
    known = ~actual.isnan()
    error = (torch.where(known, actual, 0.0).unsqueeze(2) - quantiles.double()) / scale
    pinball = torch.maximum(levels * error, (levels - 1) * error)
    return 2 * (pinball * known.unsqueeze(2)).sum() / (known.sum().clamp(min=1) * len(levels))


def _cosine(step: int, steps: int) -> float:
    """Rise over the first 50 steps, then a half cosine to a hundredth."""
    return min(1.0, (step + 1) / 50) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


@torch.no_grad()
def _average(averaged: Forecaster, network: Forecaster, decay: float) -> None:
    for kept, new in zip(averaged.parameters(), network.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


def manifest_of(config: Config, words: dict[str, tuple[str, ...]]) -> Manifest:
    """What a model trained by `config` says of itself."""
    return Manifest(
        contract=1, name=config.name, version=config.version, cell=config.model.cell,
        grid="regular" if config.step_ms is not None else "per_event", step_ms=config.step_ms,
        offset_ms=config.offset_ms, horizon=config.horizon, levels=config.levels,
        covariates=config.data.covariates, static=words, warmup_steps=(config.seasons or (config.memory_steps,))[-1],
    )  # fmt: skip


def _progress(console: Console | None) -> Progress:
    columns = (
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(TextColumn("{task.description}"), *columns, console=console, disable=console is None)
