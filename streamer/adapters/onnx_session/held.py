"""The streams' states in a device's memory: only values go in, and only forecasts come out.

onnxruntime moves rows on a device only inside a graph, so two small graphs stand before and behind the model's, and all
tensors between them stay where they are (IO binding):

    take   rows ─► Gather(held) ─► state_*            a row that starts fresh is gathered from one that is all zeros
    model  values, state_* ─► forecasts (to the host), next_state_*
    put    next_state_* ─► ScatterND(held), into the same memory; whether all numbers are sound (to the host)

Rows come to the host where they are needed there: for snapshots, and where one broke. The graphs hold no weights, so
they are written here, as the protobuf messages that they are.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from streamer.core.contract import Array, StateSpec, Taken
from streamer.core.isolation import EXPLODED
from streamer.core.timegrid import Ints, Mask

OPSET, IR = 18, 8  # ScatterND and ReduceMin as of opset 18
CODES = {"float32": 1, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11}  # onnx.proto's element types
FLOAT, INT32, INT64, DOUBLE = 1, 6, 7, 11
# a host has no more memory, a device none when asked beside a graph, or inside one
NO_MEMORY = (MemoryError, RuntimeError, RuntimeException)


class HeldOnDevice:
    """`streamer.core.held.Held` on an execution provider's device; memory for all rows is taken at once.

    device     as onnxruntime calls it: cuda, or cpu
    providers  of the graphs that move rows

    Raises MemoryError where the device cannot give that much.
    """

    def __init__(self, states: Sequence[StateSpec], rows: int, device: str, providers: Sequence[str]) -> None:
        self._states, self._device = list(states), device
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._take, self._put = (
            ort.InferenceSession(graph, options, providers=list(providers))
            for graph in (_take_graph(self._states), _put_graph(self._states))
        )
        self.bytes_per_row = sum(s.dtype.itemsize * int(np.prod(s.shape)) for s in states)
        self._reserve(rows)

    def take(self, rows: Ints, fresh: Mask) -> list[ort.OrtValue]:
        """Rows on the device."""
        return self._gather(np.where(fresh, self._zeros, rows))

    def put(self, rows: Ints, states: Taken) -> bool:
        """Into the memory that holds them; the check is the device's, too."""
        binding = self._put.io_binding()
        binding.bind_cpu_input("rows", np.ascontiguousarray(rows[:, None]))
        for i, (held, state) in enumerate(zip(self._held, states, strict=True)):
            binding.bind_ortvalue_input(f"held_{i}", held)
            binding.bind_ortvalue_input(f"state_{i}", state)
            binding.bind_ortvalue_output(f"next_{i}", held)
        sound = [i for i, state in enumerate(self._states) if state.dtype.kind == "f"]
        for i in sound:
            binding.bind_output(f"sound_{i}", "cpu")
        outputs = _run(self._put, binding)[len(self._states) :]
        return all(bool(output.numpy().all()) for output in outputs)

    def fetched(self, states: Taken) -> list[Array]:
        """Copies on the host."""
        return [np.array(state.numpy()) for state in states]

    def read(self, rows: Ints) -> list[Array]:
        """Copies of the rows on the host."""
        if not len(rows):
            return [np.zeros((0, *s.shape), s.dtype) for s in self._states]
        return self.fetched(self._gather(rows))

    def write(self, rows: Ints, states: Sequence[Array]) -> None:
        """Set the rows from the host."""
        if len(rows):
            self.put(rows, [self._to_device(np.ascontiguousarray(state)) for state in states])

    def grow(self, more: int) -> None:
        """Through the host, all there is."""
        kept = np.arange(self._zeros)
        states = self.read(kept)
        self._reserve(self._zeros + more)
        self.write(kept, states)

    def _reserve(self, rows: int) -> None:
        self._held: list[ort.OrtValue] = []  # what was held makes room
        self._zeros = rows  # the row beyond the last
        try:
            for s in self._states:
                shape = (rows + 1, *s.shape)
                self._held.append(ort.OrtValue.ortvalue_from_shape_and_type(shape, s.dtype.type, self._device))
            self.write(np.array([rows]), [np.zeros((1, *s.shape), s.dtype) for s in self._states])
        except NO_MEMORY as error:
            self._held = []
            size, told = (rows + 1) * self.bytes_per_row / 2**30, str(error).partition("\n")[0]
            raise MemoryError(f"{size:,.1f} GiB for {rows:,} streams on {self._device}: {told:.200}") from None

    def _gather(self, rows: Ints) -> list[ort.OrtValue]:
        binding = self._take.io_binding()
        binding.bind_cpu_input("rows", np.ascontiguousarray(rows))
        for i, held in enumerate(self._held):
            binding.bind_ortvalue_input(f"held_{i}", held)
            binding.bind_output(f"state_{i}", self._device)
        return _run(self._take, binding)

    def _to_device(self, state: Array) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(state, self._device)


def advance_held(
    session: ort.InferenceSession, feeds: dict[str, Array], states: dict[str, ort.OrtValue], outputs: Sequence[str],
    options: ort.RunOptions,
) -> tuple[npt.NDArray[np.float32], Taken]:  # fmt: skip
    """One call of a model whose states stay on their device: the first output, on the host, and the others."""
    binding = session.io_binding()
    device = next(iter(states.values())).device_name()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, np.ascontiguousarray(array))
    for name, state in states.items():
        binding.bind_ortvalue_input(name, state)
    quantiles, *following = outputs
    binding.bind_output(quantiles, "cpu")
    for name in following:
        binding.bind_output(name, device)
    found, *after = _run(session, binding, options)
    return np.array(found.numpy()), after


def _run(session: ort.InferenceSession, binding: Any, options: ort.RunOptions | None = None) -> list[ort.OrtValue]:
    binding.synchronize_inputs()
    session.run_with_iobinding(binding, options)
    binding.synchronize_outputs()  # the next graph has a queue of its own
    values: list[ort.OrtValue] = binding.get_outputs()
    return values


def _take_graph(states: Sequence[StateSpec]) -> bytes:
    inputs, outputs, nodes = [_value("rows", INT64, ["B"])], [], []
    for i, state in enumerate(states):
        code = CODES[state.dtype.name]
        inputs.append(_value(f"held_{i}", code, ["S", *state.shape]))
        outputs.append(_value(f"state_{i}", code, ["B", *state.shape]))
        nodes.append(_node("Gather", [f"held_{i}", "rows"], f"state_{i}"))
    return _model(nodes, inputs, outputs)


def _put_graph(states: Sequence[StateSpec]) -> bytes:
    inputs, outputs, sounds, nodes, constants = [_value("rows", INT64, ["B", 1])], [], [], [], []
    for i, state in enumerate(states):
        code, seen = CODES[state.dtype.name], f"state_{i}"
        inputs += [_value(f"held_{i}", code, ["S", *state.shape]), _value(seen, code, ["B", *state.shape])]
        outputs.append(_value(f"next_{i}", code, ["S", *state.shape]))
        nodes.append(_node("ScatterND", [f"held_{i}", "rows", seen], f"next_{i}"))
        if state.dtype.kind != "f":
            continue
        wide = DOUBLE if state.dtype.itemsize == 8 else FLOAT
        constants.append(_constant(f"exploded_{i}", wide))
        nodes += [
            _node("Cast", [seen], f"wide_{i}", to=wide),
            _node("Abs", [f"wide_{i}"], f"size_{i}"),
            _node("Less", [f"size_{i}", f"exploded_{i}"], f"is_{i}"),  # a NaN is not
            _node("Cast", [f"is_{i}"], f"count_{i}", to=INT32),
            _node("ReduceMin", [f"count_{i}"], f"sound_{i}", keepdims=0),
        ]
        sounds.append(_value(f"sound_{i}", INT32, []))
    return _model(nodes, inputs, outputs + sounds, constants)


# protobuf, as far as these graphs need it: numbers are fields and messages of onnx.proto


def _model(
    nodes: Iterable[bytes], inputs: Iterable[bytes], outputs: Iterable[bytes], constants: Iterable[bytes] = ()
) -> bytes:
    parts = [_field(1, node) for node in nodes] + [_field(2, b"rows")] + [_field(5, c) for c in constants]
    parts += [_field(11, value) for value in inputs] + [_field(12, value) for value in outputs]
    return _number(1, IR) + _field(7, b"".join(parts)) + _field(8, _field(1, b"") + _number(2, OPSET))


def _node(operator: str, inputs: Iterable[str], output: str, **attributes: int) -> bytes:
    parts = [_field(1, name.encode()) for name in inputs] + [_field(2, output.encode()), _field(4, operator.encode())]
    for name, number in attributes.items():
        parts.append(_field(5, _field(1, name.encode()) + _number(3, number) + _number(20, 2)))  # 2: an integer
    return b"".join(parts)


def _value(name: str, code: int, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_field(1, _field(2, d.encode()) if isinstance(d, str) else _number(1, d)) for d in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, code) + _field(2, dims)))


def _constant(name: str, code: int) -> bytes:
    """The limit of `isolation`, a scalar."""
    raw = struct.pack("<d" if code == DOUBLE else "<f", EXPLODED)
    return _number(2, code) + _field(8, name.encode()) + _field(9, raw)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
