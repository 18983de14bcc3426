"""What a model costs: microseconds per step beside a bare recurrent layer of its size, and training throughput."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch import nn

from streamer.adapters.onnx_session import OnnxModel
from streamer.core.contract import Block
from training.config import Config
from training.data import Series, vocabulary
from training.fit import manifest_of
from training.network import Forecaster
from training.recurrence import MODULES, ONNX_GATES, ONNX_OPSET
from training.run import Run
from training.stepping import fresh_state
from training.windows import Sampler, examples_of, statistics_of
from training.workers import Workers

ROWS = (1, 1024)  # streams per call that are measured: one event at a time, and a busy daemon
CALLS = 30
BARE_INPUTS = 16  # features of the bare layer, about as many as the network has
FITTING_STEPS = 12


def cost_of(path: str | Path, config: Config) -> Iterator[str]:
    """A line per number of streams: one step of each with its forecast, one core, beside a bare layer."""
    model = OnnxModel(path)
    bare = _bare_session(config)
    for rows in ROWS:
        block = _one_step(model, rows)
        state = fresh_state(model, rows)
        feeds = {"x": np.zeros((1, rows, BARE_INPUTS), np.float32)}
        ours = seconds(lambda b=block, s=state: model.advance(b, s)) / rows  # type: ignore[misc]
        plain = seconds(lambda f=feeds: bare.run(None, f)) / rows  # type: ignore[misc]
        yield (
            f"one step of {rows} streams with its forecast: {1e6 * ours:.2f} µs each ({1 / ours:,.0f} steps/s on one "
            f"core); a bare {config.model.cell} of {config.model.hidden}: {1e6 * plain:.2f} µs"
        )


def fitting_speed(config: Config, series: Sequence[Series]) -> tuple[float, float]:
    """Steps per second while fitting: the network's, and those of a plain recurrent layer with a linear head.

    Both learn from batches of the same shape with the same number of forecasts.
    """
    torch.set_num_threads(config.training.threads)
    examples = examples_of(config, series)
    words = vocabulary(series, config.data.static)
    network = Forecaster(config, statistics_of(config, examples), words)
    sampler = Sampler(config, examples, words, np.random.default_rng(config.training.seed))
    run = Run(config, network, sampler, Workers())
    steps = config.training.batch * config.training.window
    ours = seconds(lambda: run.count(run.learn(network)), FITTING_STEPS)
    return steps / ours, steps / seconds(_plain_loop(config, len(manifest_of(config, words).levels)), FITTING_STEPS)


def seconds(call: Callable[[], object], calls: int = CALLS) -> float:
    """The shortest duration of a call, after a few to warm up: what others on the machine take is not its cost."""
    for _ in range(3):
        call()
    times = []
    for _ in range(calls):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def _plain_loop(config: Config, levels: int) -> Callable[[], None]:
    settings = config.training
    layer = MODULES[config.model.cell](BARE_INPUTS, config.model.hidden, config.model.layers, batch_first=True)
    head = nn.Linear(config.model.hidden, config.horizon * levels)
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate)
    x = torch.randn(settings.batch, settings.window, BARE_INPUTS)
    actual = torch.randn(settings.batch, settings.origins, config.horizon, 1)
    level = torch.tensor(config.levels)

    def step() -> None:
        forecast = head(layer(x)[0][:, -settings.origins :]).unflatten(2, (config.horizon, levels))
        error = actual - forecast
        loss = torch.maximum(level * error, (level - 1) * error).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimizer.step()

    return step


def _one_step(model: OnnxModel, rows: int) -> Block:
    channels, categories = 1 + len(model.manifest.covariates), len(model.manifest.static)
    random = np.random.default_rng(0)
    value = random.normal(size=(rows, 1, channels)).astype(model.signature.value_dtype)
    ones = np.ones(rows, np.int64)
    static = np.zeros((rows, categories), np.int64)
    observed = np.ones((rows, 1, channels), np.float32)
    return Block(value, observed, np.zeros((rows, 1), np.int64), ones, np.arange(rows), static)


def _bare_session(config: Config) -> onnxruntime.InferenceSession:
    """A graph of one recurrent operator with random weights."""
    cell, size = config.model.cell, config.model.hidden
    gates = len(ONNX_GATES[cell])
    random = np.random.default_rng(0)
    weights = [
        helper.make_tensor(name, TensorProto.FLOAT, shape, random.normal(0, 0.1, shape).flatten())
        for name, shape in (("w", (1, gates * size, BARE_INPUTS)), ("r", (1, gates * size, size)))
    ]
    node = helper.make_node(cell.upper(), ["x", "w", "r"], ["y"], hidden_size=size)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", BARE_INPUTS])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "bare", [x], [y], weights)
    opset = [helper.make_opsetid("", ONNX_OPSET)]
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=opset, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
