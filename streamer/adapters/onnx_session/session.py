"""A model file on onnxruntime: loaded, held against the contract, and advanced block by block."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from streamer.adapters.onnx_session.held import HeldOnDevice, advance_held
from streamer.core.conformance import check_conformance
from streamer.core.contract import (
    NEXT_STATE_PREFIX,
    STATE_PREFIX,
    Array,
    Block,
    Signature,
    StateSpec,
    Taken,
    TensorSpec,
    check_signature,
    parse_manifest,
)
from streamer.core.held import Held, HeldHere
from streamer.core.onnx_file import fingerprint, refuse_external_weights
from streamer.errors import ConfigError, ContractError
from streamer.logs import log

DTYPES = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
ON_CPU = "CPUExecutionProvider"
ON_CUDA = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
MOVES_ROWS = ("CUDAExecutionProvider", ON_CPU)  # TensorRT would build engines for graphs that have nothing to compute
ERRORS_ONLY, FATAL_ONLY = 3, 4  # onnxruntime's severity scale: 2 warns about every shape it merges


class OnnxModel:
    """A checked model bundle, ready to advance blocks.

    path          the ONNX file
    providers     onnxruntime execution providers in order of preference; one that is not available is refused
    threads       threads inside one model call
    cpu_fallback  take the CPU, with a warning, instead of refusing

    Raises ConfigError for a file or provider that is not there, ContractError for a file that is not a model.
    """

    def __init__(
        self,
        path: str | Path,
        providers: Sequence[str] = (ON_CPU,),
        threads: int = 1,
        cpu_fallback: bool = False,
    ) -> None:
        self.path = str(path)
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"model.path: cannot read {self.path!r}: {error.strerror}; name a model file") from None
        refuse_external_weights(content, self.path)
        try:
            self._session = _session(self.path, content, providers, threads)
        except ConfigError as problem:
            if not cpu_fallback:
                raise
            log("provider_replaced", logging.WARNING, by=ON_CPU, reason=str(problem))
            self._session = _session(self.path, content, (ON_CPU,), threads)
        meta = self._session.get_modelmeta()
        self.manifest = parse_manifest(meta.custom_metadata_map, self.path)
        self.signature: Signature = check_signature(
            self.manifest, _specs(self._session.get_inputs()), _specs(self._session.get_outputs()), self.path
        )
        self.fingerprint = fingerprint(content, self.manifest)
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        self._state_inputs = [STATE_PREFIX + s.name for s in self.signature.states]
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = FATAL_ONLY  # an error comes as an exception, and is not said twice
        self._outputs = ["quantiles", *(NEXT_STATE_PREFIX + s.name for s in self.signature.states)]
        check_conformance(self, self.path)  # also the warm-up of the first real call

    def advance(self, block: Block, state: Sequence[Any]) -> tuple[npt.NDArray[np.float32], Taken]:
        """Quantiles (N, H, Q) at the emitted positions, and each row's state after its last step, where it was."""
        feeds: dict[str, Array] = {
            "value": block.value,
            "observed": block.observed,
            "time": block.time,
            "length": block.length,
            "emit": block.emit,
        }
        if self.manifest.static:
            feeds["static"] = block.static
        states = dict(zip(self._state_inputs, state, strict=True))
        if any(isinstance(each, ort.OrtValue) for each in state):
            return advance_held(self._session, feeds, states, self._outputs, self._run_options)
        quantiles, *next_state = self._session.run(self._outputs, feeds | states, self._run_options)
        return quantiles, next_state

    def hold(self, states: Sequence[StateSpec], rows: int) -> Held:
        """Room for so many streams' states, where this model runs."""
        if self.providers[0] in ON_CUDA and states:
            return HeldOnDevice(states, rows, "cuda", MOVES_ROWS)
        return HeldHere(states, rows)


def _session(path: str, content: bytes, providers: Sequence[str], threads: int) -> ort.InferenceSession:
    available = ort.get_available_providers()
    if missing := [p for p in providers if p not in available]:
        raise ConfigError(
            f"model.providers: {missing[0]!r} is not available here, found {', '.join(available)}; "
            "install the onnxruntime build that has it, choose one of these, or set model.cpu_fallback"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    # a spinning pool would burn a core between blocks
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(content, options, providers=list(providers))
    except Exception as error:  # onnxruntime raises a type of its own per status code
        raise ContractError(
            f"{path}: not an ONNX model that onnxruntime {ort.__version__} can load: "
            f"{str(error).splitlines()[0]:.300}; export it again with `training export`"
        ) from None
    # onnxruntime falls back to the CPU where a provider is built in but its libraries or its device are not there
    if missing := [p for p in providers if p not in session.get_providers()]:
        raise ConfigError(
            f"model.providers: {missing[0]!r} could not be started here, found {', '.join(session.get_providers())}; "
            "install its libraries and drivers, choose one of these, or set model.cpu_fallback"
        )
    return session


def _specs(nodes: Sequence[ort.NodeArg]) -> list[TensorSpec]:
    def dtype(node: ort.NodeArg) -> np.dtype[np.generic]:
        return np.dtype(DTYPES.get(node.type, "object"))

    return [TensorSpec(n.name, dtype(n), tuple(d if isinstance(d, int) else None for d in n.shape)) for n in nodes]
