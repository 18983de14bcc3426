"""Several processes that fit one network: started by `torchrun`, each with its own windows, gradients averaged.

    torchrun --nproc-per-node 2 -m training fit CONFIG …

Without torchrun there is one worker and nothing of this is used.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from streamer.errors import ConfigError
from training.network import Forecaster


@dataclass(frozen=True)
class Workers:
    """Who fits together with whom: rank 0 validates, reports and writes."""

    rank: int = 0
    size: int = 1

    def share(self, batch: int) -> int:
        """Windows of a batch that fall to each. Raises ConfigError where they cannot be shared evenly."""
        if batch % self.size:
            raise ConfigError(f"training.batch: expected a multiple of the {self.size} processes, found {batch}")
        return batch // self.size

    def wrap(self, network: Forecaster) -> nn.Module:
        """The network as it is trained: its gradients become the mean over all workers."""
        if self.size == 1:
            return network
        return DistributedDataParallel(network, find_unused_parameters=network.idles)

    def agree(self, value: float) -> float:
        """Rank 0's value, for all."""
        values: list[Any] = [value]
        if self.size > 1:
            distributed.broadcast_object_list(values, src=0)
        return float(values[0])

    def gather(self, mine: object) -> list[Any]:
        """Everyone's, in order of rank."""
        everyone: list[Any] = [mine]
        if self.size > 1:
            everyone = [None] * self.size
            distributed.all_gather_object(everyone, mine)
        return everyone


@contextmanager
def joined(device: torch.device) -> Iterator[Workers]:
    """One of the processes that torchrun started, or the only one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Workers()
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Workers(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def chosen_device(name: str) -> torch.device:
    """`auto` is a CUDA device where there is one. Raises ConfigError where the one asked for is absent."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device: cuda was asked for and torch finds none; set cpu or auto")
    return torch.device(name)
