"""Small series, small networks, and one exported model, for the trainer's tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from training.checkpoint import Fitted
from training.config import Config
from training.data import Series, vocabulary
from training.fit import manifest_of
from training.network import Forecaster, Statistics

HOUR = 3_600_000
START = 1_356_998_400_000  # 2013-01-01T00:00Z


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def hourly(steps: int, seed: int = 0, stream: str = "a", covariates: int = 0, static: tuple[str, ...] = ()) -> Series:
    """A noisy daily wave with some values missing."""
    random = np.random.default_rng(seed)
    t = np.arange(steps)
    target = 10 * (1 + seed) + 3 * np.sin(2 * np.pi * t / 24) + random.normal(0, 0.5, steps)
    value = np.column_stack([target, *(random.normal(size=(covariates, steps)) * 5 + 1000)])
    observed = (random.random(value.shape) < 0.95).astype(np.float32)
    return Series(stream, START + t * HOUR, value * observed, observed, static)


def config_of(**changes: object) -> Config:
    """A configuration small enough to train in seconds: a day's season, hidden size 6."""
    small = {"hidden": 6, "head": 8, "seasons": [24], "memory_steps": 48}
    model = {**small, **changes.pop("model", {})}  # type: ignore[dict-item]
    quick = {"steps": 20, "batch": 8, "window": 48, "warmup": 8, "origins": 4, "validate_every": 10, "threads": 1}
    training = {**quick, **changes.pop("training", {})}  # type: ignore[dict-item]
    base = {"name": "small", "horizon": 6, "levels": [0.1, 0.5, 0.9], "model": model, "training": training}
    return Config.model_validate({**base, **changes})


def untrained(config: Config, series: list[Series], seed: int = 3) -> Fitted:
    """A network with random weights, large enough to move every forecast."""
    torch.manual_seed(seed)
    words = vocabulary(series, config.data.static)
    covariates = len(config.data.covariates)
    network = Forecaster(config, Statistics([1000.0] * covariates, [5.0] * covariates), words)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return Fitted(config, network.eval(), manifest_of(config, words))


@pytest.fixture
def tidy(tmp_path: Path) -> Callable[..., Path]:
    """Writes events (stream, ts, value) to a tidy file of the given name."""

    def write(events: list[tuple[str, int, float | None]], name: str = "data.parquet") -> Path:
        frame = pl.DataFrame(events, schema={"stream": pl.String, "ts": pl.Int64, "value": pl.Float64}, orient="row")
        path = tmp_path / name
        {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[path.suffix[1:]](path)
        return path

    return write
