"""Write a trained network as one ONNX file, if onnxruntime agrees with torch on it.

network ─► torch.onnx graph ─► cleaned, manifest in ─► operators ─► parity on onnxruntime ─► written
                            not on every provider: ContractError ─┘       └─ disagrees: ContractError, nothing written
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from streamer.adapters.onnx_session import OnnxModel
from streamer.core.contract import MANIFEST_KEY, Manifest
from streamer.errors import ContractError
from training.checkpoint import Fitted
from training.data import Series
from training.network import Forecaster
from training.parity import Difference, compare
from training.providers import check_operators, nodes_of
from training.recurrence import ONNX_OPSET, onnx_translations
from training.stepping import TorchModel


def export(fitted: Fitted, path: str | Path, series: Sequence[Series]) -> Difference:
    """Write the model bundle to `path` and return the largest difference found between torch and onnxruntime.

    series  real sequences to compare on; cases that real data may lack are added to them

    Raises ContractError where the two disagree, or the file breaks the contract; then nothing is written.
    """
    network = fitted.network.eval()
    content = onnx_bytes(network, fitted.manifest)
    target = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / target.name
        candidate.write_bytes(content)
        model = OnnxModel(candidate)
        difference = compare(TorchModel(network, fitted.manifest), model, series)
    difference.check(str(path))
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(content)
    partial.replace(target)
    return difference


def onnx_bytes(network: Forecaster, manifest: Manifest) -> bytes:
    """The network as a serialised ONNX model; the same weights give the same bytes."""
    states = [name for name, *_ in network.state_specs]
    inputs = ["value", "observed", "time", "length", "emit", *(["static"] if manifest.static else [])]
    with _quiet():
        program = torch.onnx.export(
            _Graph(network),
            _sample(network, manifest),
            input_names=inputs + [f"state_{name}" for name in states],
            output_names=["quantiles", *(f"next_state_{name}" for name in states)],
            dynamic_shapes=_dynamic_shapes(network, manifest),
            custom_translation_table=onnx_translations(),
            opset_version=ONNX_OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ContractError("torch exported nothing")
    proto = program.model_proto
    _clean(proto)
    onnx.helper.set_model_props(proto, {MANIFEST_KEY: manifest.model_dump_json()})
    onnx.checker.check_model(proto)
    check_operators(proto)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


class _Graph(nn.Module):
    """The network with flat inputs and outputs, as an ONNX graph has them."""

    def __init__(self, network: Forecaster) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, value: Tensor, observed: Tensor, time: Tensor, length: Tensor, emit: Tensor, static: Tensor | None,
        state: list[Tensor],
    ) -> tuple[Tensor, ...]:  # fmt: skip
        quantiles, following = self.network(value, observed, time, length, emit, static, state)
        return (quantiles, *following)


def _sample(network: Forecaster, manifest: Manifest) -> tuple[object, ...]:
    """Inputs to trace with; every open dimension has a size of its own, none 0 or 1, which torch would fix."""
    streams, steps, channels = 3, 5, 1 + len(manifest.covariates)
    return (
        torch.zeros(streams, steps, channels, dtype=torch.float64),
        torch.zeros(streams, steps, channels),
        torch.zeros(streams, steps, dtype=torch.int64),
        torch.full((streams,), steps),
        torch.arange(7),
        torch.zeros(streams, len(manifest.static), dtype=torch.int64) if manifest.static else None,
        network.fresh_state(streams),
    )


def _dynamic_shapes(network: Forecaster, manifest: Manifest) -> tuple[object, ...]:
    b, t, n = torch.export.Dim("B"), torch.export.Dim("T"), torch.export.Dim("N")
    steps = {0: b, 1: t}
    static = {0: b} if manifest.static else None
    return (steps, steps, steps, {0: b}, {0: n}, static, [{0: b} for _ in network.state_specs])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings and log lines, which are about its own internals."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _clean(proto: onnx.ModelProto) -> None:
    """Drop what says where it was made: torch notes a stack trace with file paths on every node."""
    proto.producer_version = ""
    proto.ClearField("doc_string")
    del proto.metadata_props[:]
    graphs = [proto.graph, *proto.functions]
    for node in nodes_of(proto):
        node.ClearField("doc_string")
        del node.metadata_props[:]
        graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    for graph in graphs:
        graph.ClearField("doc_string")
        del graph.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info, *proto.graph.initializer):
        value.ClearField("doc_string")
        del value.metadata_props[:]
