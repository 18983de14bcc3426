"""A fit in progress: all that changes from step to step, so that it can be put down and taken up.

What is on disk was written at a validation; a fit that was killed loses the steps since, takes them again
with the same random numbers, and ends with the same weights.
"""

import copy
import math
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from streamer.errors import ConfigError
from training.checkpoint import write_whole
from training.config import Config
from training.network import Forecaster
from training.windows import Batch, Sampler
from training.workers import Workers

WARM_STEPS = 50  # over which the learning rate rises
LAST_RATE = 0.01  # of the learning rate, at the end


class Run:
    """Weights, their moving average, the optimiser, the random numbers, and how far it has come.

    data     digest of what the fit sees, so that it is not taken up on other data
    history  (step, training loss, validation loss) at each validation
    """

    def __init__(
        self, config: Config, network: Forecaster, sampler: Sampler, workers: Workers, data: str = ""
    ) -> None:  # fmt: skip
        settings, self.data = config.training, data
        self.config, self.network, self.sampler, self.workers = config, network, sampler, workers
        self.averaged = copy.deepcopy(network)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: _cosine(step, settings.steps))
        self.step, self.waited, self.loss_sum = 0, 0, 0.0
        self.history: list[tuple[int, float, float]] = []
        self.best, self.best_weights = math.inf, copy.deepcopy(self.averaged.state_dict())

    @property
    def over(self) -> bool:
        """Whether all steps are taken, or validation has got no better for too long."""
        return self.step >= self.config.training.steps or self.waited >= self.config.training.patience

    @property
    def validation_due(self) -> bool:
        """Whether this step ends with a validation."""
        return self.step % self.config.training.validate_every == 0 or self.step == self.config.training.steps

    def learn(self, wrapped: nn.Module) -> float:
        """One optimiser step of the network, as its workers `wrapped` it, on one batch; returns its loss."""
        self.network.train()
        settings, device = self.config.training, self.device
        batch = self.sampler.draw(self.network).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            quantiles, state = wrapped(*batch.inputs)
        loss = _loss(quantiles, batch, torch.tensor(self.config.levels, device=device))
        self.sampler.carry(state)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self.optimizer.step()
        return loss.item()

    def count(self, loss: float) -> None:
        """One step was taken: move the rate on and the average along."""
        self.step += 1
        self.loss_sum += loss
        self.schedule.step()
        self._average(min(self.config.training.average, self.step / (self.step + 10)))

    def judge(self, score: float) -> None:
        """Note a validation, and keep the weights that did best."""
        since = self.step - (self.history[-1][0] if self.history else 0)
        losses = self.workers.gather(self.loss_sum / since)
        self.history.append((self.step, sum(losses) / len(losses), score))
        self.loss_sum = 0.0
        if score < self.best:
            self.best, self.best_weights, self.waited = score, copy.deepcopy(self.averaged.state_dict()), 0
        else:
            self.waited += 1

    def save(self, path: Path) -> None:
        """Put it down, in one piece or not at all; every worker takes part, rank 0 writes."""
        randoms = self.workers.gather((*random_states(self.device), self.sampler.state()))
        if self.workers.rank:
            return
        saved = {
            "config": self.config.model_dump(mode="json"), "data": self.data, "randoms": randoms, "step": self.step,
            "waited": self.waited, "history": self.history, "best": self.best, "best_weights": self.best_weights,
            "network": self.network.state_dict(), "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict(),
        }  # fmt: skip
        write_whole(saved, path)

    def restore(self, path: Path) -> None:
        """Take up what `save` put down. Raises ConfigError where that is not a fit of this config on this data."""
        saved = _load(path)
        if saved["config"] != self.config.model_dump(mode="json"):
            raise ConfigError(f"{path}: holds a fit by other settings; fit without --resume to start again")
        if saved["data"] != self.data:
            raise ConfigError(
                f"{path}: holds a fit on other data before the test part, {saved['data']:.15}…, where these are "
                f"{self.data:.15}…; name its data, or fit without --resume to start again"
            )
        if len(saved["randoms"]) != self.workers.size:
            found = len(saved["randoms"])
            raise ConfigError(f"{path}: holds a fit of {found} processes, this is {self.workers.size}; start as many")
        self.step, self.waited, self.best = saved["step"], saved["waited"], saved["best"]
        self.history = [(int(s), float(t), float(v)) for s, t, v in saved["history"]]
        self.best_weights = saved["best_weights"]
        self.network.load_state_dict(saved["network"])
        self.averaged.load_state_dict(saved["averaged"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        of_torch, of_device, of_sampler = saved["randoms"][self.workers.rank]
        torch.set_rng_state(of_torch)
        if of_device is not None:
            torch.cuda.set_rng_state(of_device, self.device)
        self.sampler.restore(of_sampler)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.head.stretch.device

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        for kept, new in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)


def random_states(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Of torch's generators: the CPU's, and a CUDA device's, which draws the dropout there."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _load(path: Path) -> dict[str, Any]:
    try:
        saved = torch.load(path, weights_only=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; there is no fit to resume") from None
    except (RuntimeError, EOFError, UnpicklingError) as error:
        raise ConfigError(f"{path}: not a fit that was put down: {str(error).splitlines()[0]}") from None
    if not isinstance(saved, dict) or not {"randoms", "data"} <= saved.keys():
        raise ConfigError(f"{path}: not a fit that this version put down; fit without --resume")
    return saved


def _cosine(step: int, steps: int) -> float:
    """Rise over the first steps, then a half cosine."""
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return min(1.0, (step + 1) / WARM_STEPS) * (LAST_RATE + (1 - LAST_RATE) * fall)


def _loss(quantiles: Tensor, batch: Batch, levels: Tensor) -> Tensor:
    """Mean pinball loss, doubled, in units of each stream's naive error; missing actuals count nothing."""
    known = ~batch.actual.isnan()
    error = (torch.where(known, batch.actual, 0.0).unsqueeze(2) - quantiles.double()) / batch.scale
    pinball = torch.maximum(levels * error, (levels - 1) * error)
    return 2 * (pinball * known.unsqueeze(2)).sum() / (known.sum().clamp(min=1) * len(levels))
