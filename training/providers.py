"""Where a model file runs: on onnxruntime's CPU and CUDA execution providers, with kernels of their own.

An operator without a kernel on a device runs on the CPU, and its tensors are copied there and back at every step. So
the file keeps to the standard operators, at an opset for which both providers have all of them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import onnxruntime

from streamer.adapters.onnx_session import OnnxModel
from streamer.core.contract import Model
from streamer.errors import ContractError, StreamerError
from training.data import Series
from training.parity import TOLERANCE, compare
from training.recurrence import ONNX_OPSET

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
STANDARD = ("", "ai.onnx")  # two names of the standard domain
# Those of the trainer's graphs; the types they are used with are among those of the kernels.
# Source: onnxruntime, docs/OperatorKernels.md, both providers.
_NAMES = """
Abs Add And ArgMax Cast Clip Concat Constant ConstantOfShape Cos CumSum Div Equal Exp Expand Floor Gather
GatherElements Gemm Greater GreaterOrEqual GRU Identity If Less LessOrEqual Log LSTM MatMul Max Min Mod Mul Neg Not
Or Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape RNN Shape Sigmoid Sign Sin Slice Softmax
Split Sqrt Squeeze Sub Tanh Tile Transpose Unsqueeze Where
"""
ON_BOTH = frozenset(_NAMES.split())


def check_operators(proto: onnx.ModelProto) -> None:
    """Raises ContractError for an operator or an opset that an execution provider may not have."""
    versions = {opset.domain: opset.version for opset in proto.opset_import}
    for node in nodes_of(proto):
        if node.domain not in STANDARD:
            raise ContractError(f"operator {node.domain}.{node.op_type}: only ONNX's own run wherever onnxruntime does")
        if node.op_type not in ON_BOTH:
            raise ContractError(f"operator {node.op_type}: not known to have a kernel on {CPU} and on {CUDA}")
    if (found := versions.get("", versions.get("ai.onnx"))) != ONNX_OPSET:
        raise ContractError(f"opset {found}, expected {ONNX_OPSET}, for which {CPU} and {CUDA} have every operator")


def nodes_of(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes, also those inside of nodes and functions."""
    graphs = [proto.graph, *proto.functions]
    for graph in graphs:  # those inside of nodes are added as they are met
        for node in graph.node:
            yield node
            graphs += [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def runs_on(provider: str, path: str | Path, reference: Model, series: Sequence[Series]) -> str:
    """A sentence on the file, run by an execution provider beside `reference`; without one, on what was not tried."""
    if provider not in onnxruntime.get_available_providers():
        return f"{provider}: none here, so not tried; it has a kernel for every operator of the file"
    try:
        model = OnnxModel(path, tuple(dict.fromkeys((provider, CPU))))
    except StreamerError as error:
        return f"{provider}: not tried: {error}"
    found = compare(reference, model, series)
    agreed = "agree" if found.forecast <= TOLERANCE else f"differ by more than the rounding of {TOLERANCE:g}, and agree"
    return f"{provider}: its forecasts and torch's {agreed} to {found.forecast:.1g}"
