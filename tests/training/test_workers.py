import os
import subprocess
import sys

import pytest
import torch

from streamer.errors import ConfigError
from training.workers import Workers, chosen_device

SCRIPT = """
import sys
from pathlib import Path
import torch
from tests.training.conftest import config_of, hourly
from training.fit import fit

config = config_of(split={"train_end": 200, "validation_end": 300}, training={"steps": 20})
fitted = fit(config, [hourly(400, i, s) for i, s in enumerate("abc")], progress=Path(sys.argv[1]) / "p")
weights = torch.cat([p.flatten() for p in fitted.network.parameters()])
torch.save((weights, list(fitted.history)), Path(sys.argv[1]) / f"{fitted.rank}.pt")
"""


GRADIENTS = """
import sys
from copy import deepcopy
from pathlib import Path
import torch
from tests.training.conftest import config_of, hourly
from training.fit import _start
from training.run import _loss
from training.windows import examples_of
from training.workers import joined

def gradients(network, wrapped, batch):
    network.zero_grad(set_to_none=True)
    quantiles, _ = wrapped(*batch.inputs)
    _loss(quantiles, batch, torch.tensor(config.levels)).backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}

with joined(torch.device("cpu")) as workers:
    for without in ([], ["recurrence"], ["skip", "window"]):
        model = {"dropout": 0.0, "without": without}
        config = config_of(split={"train_end": 200, "validation_end": 300}, model=model)
        series = [hourly(400, i, s) for i, s in enumerate("abc")]
        run = _start(config, series, examples_of(config, series), torch.device("cpu"), workers)
        wrapped = workers.wrap(run.network)
        for _ in range(2):  # a parameter without a gradient shows itself at the next step
            batch = run.sampler.draw(run.network)
            own = gradients(alone := deepcopy(run.network), alone, batch)
            both = gradients(run.network, wrapped, batch)
        torch.save((own, both), Path(sys.argv[1]) / f"{workers.rank}-{'-'.join(without)}.pt")
"""


def two_processes(folder, script):
    (folder / "job.py").write_text(script)
    command = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1", "--master-port=0"]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, *command, "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", folder / "job.py", folder],
        env={**environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_two_processes_fit_one_network(tmp_path):
    two_processes(tmp_path, SCRIPT)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(first[0], second[0])
    assert first[1] == second[1]


def test_the_gradient_of_two_processes_is_the_mean_of_both_batches_whatever_parts_are_left_out(tmp_path):
    two_processes(tmp_path, GRADIENTS)
    for without in ("", "recurrence", "skip-window"):
        (own, both), (other, same) = (torch.load(tmp_path / f"{rank}-{without}.pt") for rank in (0, 1))
        assert both.keys() == same.keys() >= own.keys()
        assert len(own) > 5
        for name, gradient in own.items():
            assert not torch.equal(gradient, other[name]) or not gradient.any()
            torch.testing.assert_close(both[name], (gradient + other[name]) / 2)
            assert torch.equal(both[name], same[name])


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    assert Workers(0, 4).share(8) == 2
    with pytest.raises(ConfigError, match=r"training\.batch: expected a multiple of the 3 processes, found 8"):
        Workers(0, 3).share(8)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_cuda_device_that_is_absent_is_refused():
    assert chosen_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match=r"training\.device"):
        chosen_device("cuda")
