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


def test_two_processes_fit_one_network(tmp_path):
    (tmp_path / "job.py").write_text(SCRIPT)
    command = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1", "--master-port=0"]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, *command, "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", tmp_path / "job.py", tmp_path],
        env={**environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(first[0], second[0])
    assert first[1] == second[1]
    assert not (tmp_path / "p").exists()


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    assert Workers(0, 4).share(8) == 2
    with pytest.raises(ConfigError, match=r"training\.batch: expected a multiple of the 3 processes, found 8"):
        Workers(0, 3).share(8)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_cuda_device_that_is_absent_is_refused():
    assert chosen_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match=r"training\.device"):
        chosen_device("cuda")
