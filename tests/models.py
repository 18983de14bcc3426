"""Contract models made by hand: forecasts that a test can compute itself, and files that break the contract.

    path = models.save(models.echo(horizon=2), tmp_path / "echo.onnx")

`echo` is the one to calculate with, `gru` a recurrent network as the trainer would export it, with random weights.
`redeclared`, `with_manifest`, `without` and `without_manifest` break a good model for the tests of refusals.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

from streamer.core.contract import MANIFEST_KEY

HOUR_MS = 3_600_000
OPSET = '<ir_version: 10, opset_import: ["" : 18]>'
# element types in onnx's text form, and their numbers in a Cast (onnx.proto)
TEXT_TYPES = {"float32": "float", "float64": "double"}
FLOAT, INT32, INT64, BOOL = 1, 6, 7, 9


@dataclass(frozen=True)
class Design:
    """What a hand-made model declares; the keyword arguments of `echo` and `gru`.

    step_ms       None makes a per-event model
    fixed_steps   T is declared as 1
    """

    horizon: int = 3
    levels: tuple[float, ...] = (0.1, 0.5, 0.9)
    step_ms: int | None = HOUR_MS
    offset_ms: int = 0
    covariates: tuple[str, ...] = ()
    static: dict[str, tuple[str, ...]] = field(default_factory=dict)
    warmup_steps: int = 0
    value_dtype: str = "float32"
    fixed_steps: bool = False

    @property
    def channels(self) -> int:
        return 1 + len(self.covariates)

    def manifest(self, name: str, cell: str) -> dict[str, object]:
        return {
            "contract": 1,
            "name": name,
            "version": "1",
            "cell": cell,
            "grid": "regular" if self.step_ms else "per_event",
            "step_ms": self.step_ms,
            "offset_ms": self.offset_ms,
            "horizon": self.horizon,
            "levels": self.levels,
            "covariates": self.covariates,
            "static": self.static,
            "warmup_steps": self.warmup_steps,
        }

    def inputs(self) -> str:
        """The declared inputs but the state, in onnx's text form."""
        steps = 1 if self.fixed_steps else "T"
        declared = [
            f"{TEXT_TYPES[self.value_dtype]}[B, {steps}, {self.channels}] value",
            f"float[B, {steps}, {self.channels}] observed",
            f"int64[B, {steps}] time",
            "int64[B] length",
            "int64[N] emit",
        ]
        return ", ".join(declared + [f"int64[B, {len(self.static)}] static"] * bool(self.static))


def echo(poison: tuple[float, float] = (-999.0, math.nan), **design) -> onnx.ModelProto:
    """Forecasts the last observed value and counts steps, as `echo_forecast` does in Python.

    Its state: `last` (1+P,) in the values' type, `steps` () int64 with the gaps' steps, `clock` () int64, the last
    step's time. An observed value equal to poison[0] puts poison[1] (NaN or infinite) into `last`, where it stays
    not finite whatever follows, as in a recurrent network.
    """
    d = Design(**design)
    value = TEXT_TYPES[d.value_dtype]
    c, h, q = d.channels, d.horizon, len(d.levels)
    text = f"""
    {OPSET}
    echo ({d.inputs()}, {value}[B, {c}] state_last, int64[B] state_steps, int64[B] state_clock)
        => (float[N, {h}, {q}] quantiles,
            {value}[B, {c}] next_state_last, int64[B] next_state_steps, int64[B] next_state_clock)
    <int64[1] first = {{1}}, int64 zero = {{0}}, int64 one = {{1}}, float thousand = {{1000}},
     int64[2] flat_values = {{-1, {c}}}, int64[1] flat = {{-1}}, int64[3] cube = {{-1, 1, 1}}>
    {{
        block = Shape <start = 0, end = 2> (time)
        steps_of_block = Gather (block, one)
        positions = Range (zero, steps_of_block, one)
        column = Unsqueeze (length, first)
        real = Less (positions, column)
        next_state_last, next_state_steps, next_state_clock, lasts, counts = Scan
            <num_scan_inputs = 4, scan_input_axes = [1, 1, 1, 1], scan_output_axes = [1, 1], body = {_echo_step(d)}>
            (state_last, state_steps, state_clock, value, observed, time, real)
        every_last = Reshape (lasts, flat_values)
        emitted_last = Gather (every_last, emit)
        summed = ReduceSum <keepdims = 0> (emitted_last, first)
        base = Cast <to = {FLOAT}> (summed)
        every_count = Reshape (counts, flat)
        emitted_count = Gather (every_count, emit)
        count = Cast <to = {FLOAT}> (emitted_count)
        {_echo_codes(d)}
        level = Reshape (coded, cube)
        slope = Reshape (count, cube)
        climb = Mul (slope, leads)
        middle = Add (level, climb)
        quantiles = Add (middle, offsets)
    }}
    """
    constants = {
        "leads": np.arange(1, h + 1, dtype=np.float32).reshape(1, h, 1),
        "offsets": (np.arange(q, dtype=np.float32) - q // 2).reshape(1, 1, q),
        "trigger": np.array(poison[0], d.value_dtype),
        "broken": np.array(poison[1], d.value_dtype),
        "nothing": np.array(0, d.value_dtype),
    }
    return _finished(text, constants, d.manifest("echo", "none"))


def echo_forecast(last: float, steps: int, codes: int = 0, horizon: int = 3, levels: int = 3) -> np.ndarray:
    """`echo`'s quantiles (H, Q): last + 1000·codes + lead·steps + (k − Q // 2) for lead 1…H and the k-th level.

    last    last observed target (0 if none) plus each covariate's last observed value
    steps   steps since a fresh start, missing ones included
    codes   the sum of the static codes
    """
    leads, order = np.arange(1, horizon + 1)[:, None], np.arange(levels)[None, :]
    return (last + 1000 * codes + leads * steps + order - levels // 2).astype(np.float32)


def _echo_step(d: Design) -> str:
    value, c = TEXT_TYPES[d.value_dtype], d.channels
    return f"""step ({value}[B, {c}] last, int64[B] steps, int64[B] clock,
                     {value}[B, {c}] now, float[B, {c}] seen, int64[B] at, bool[B] exists)
        => ({value}[B, {c}] new_last, int64[B] new_steps, int64[B] new_clock, {value}[B, {c}] l, int64[B] s)
    {{
        is_seen = Cast <to = {BOOL}> (seen)
        exists_column = Unsqueeze (exists, first)
        take = And (is_seen, exists_column)
        is_poison = Equal (now, trigger)
        taken = Where (is_poison, broken, now)
        memory = Mul (last, nothing)
        sticky = Add (taken, memory)
        new_last = Where (take, sticky, last)
        one_more = Cast <to = {INT64}> (exists)
        new_steps = Add (steps, one_more)
        new_clock = Where (exists, at, clock)
        l = Identity (new_last)
        s = Identity (new_steps)
    }}"""


def _echo_codes(d: Design) -> str:
    if not d.static:
        return "coded = Identity (base)"
    return f"""
        row = Div (emit, steps_of_block)
        code_sum = ReduceSum <keepdims = 0> (static, first)
        code = Gather (code_sum, row)
        code_f = Cast <to = {FLOAT}> (code)
        thousands = Mul (code_f, thousand)
        coded = Add (base, thousands)"""


def gru(hidden: int = 16, seed: int = 7, **design) -> onnx.ModelProto:
    """A GRU with random weights on values around 50 ± 25 and the time of day, as an exported model computes it.

    Its state is `h` (hidden,). The head works on the emitted rows and builds its levels increasing, out of positive
    widths and by matrix products, since operators that repeat a small axis cost as much as the GRU. Float32 matrix
    kernels differ with the batch's shape, so its forecasts agree over batchings to about 1e-6, not bit for bit.
    """
    d = Design(**design)
    h, q = d.horizon, len(d.levels)
    features = 2 * d.channels + 2
    random = np.random.default_rng(seed)

    def weights(scale: float, *shape: int) -> np.ndarray:
        return random.normal(0, scale, shape).astype(np.float32)

    head, head_bias = weights(10.0, hidden, h), weights(5.0, h) + np.float32(50)
    constants = {
        "W": weights(0.4, 1, 3 * hidden, features),
        "R": weights(0.6 / math.sqrt(hidden), 1, 3 * hidden, hidden),
        "bias": weights(0.1, 1, 6 * hidden),
        "head": head.repeat(q, axis=1),
        "head_bias": head_bias.repeat(q),
        "width_head": weights(1.0, hidden, h),
        "width_bias": weights(1.0, h) + np.float32(5),
        "ranks": np.kron(np.eye(h, dtype=np.float32), np.arange(q, dtype=np.float32) - q // 2),
    }
    return _finished(_gru_text(d, hidden), constants, d.manifest(f"gru-{hidden}", "gru"))


def _gru_text(d: Design, hidden: int) -> str:
    h, q = d.horizon, len(d.levels)
    return f"""
    {OPSET}
    gru ({d.inputs()}, float[B, {hidden}] state_h)
        => (float[N, {h}, {q}] quantiles, float[B, {hidden}] next_state_h)
    <int64[1] first = {{0}}, int64[1] second = {{1}}, int64[1] third = {{2}}, int64 day = {{86400000}},
     float to_angle = {{{2 * math.pi / 86_400_000}}}, float middle = {{50}}, float spread = {{25}},
     float four = {{4}}, int64[2] rows = {{-1, {hidden}}}, int64[3] cube = {{-1, {h}, {q}}}>
    {{
        single = Cast <to = {FLOAT}> (value)
        centred = Sub (single, middle)
        scaled = Div (centred, spread)
        level = Mul (scaled, observed)
        of_day = Mod (time, day)
        of_day_f = Cast <to = {FLOAT}> (of_day)
        flat_angle = Mul (of_day_f, to_angle)
        angle = Unsqueeze (flat_angle, third)
        sine = Sin (angle)
        cosine = Cos (angle)
        x = Concat <axis = 2> (level, observed, sine, cosine)
        by_step = Transpose <perm = [1, 0, 2]> (x)
        h0 = Unsqueeze (state_h, first)
        steps = Cast <to = {INT32}> (length)
        y4, hn = GRU <hidden_size = {hidden}, linear_before_reset = 1> (by_step, W, R, bias, steps, h0)
        next_state_h = Squeeze (hn, first)
        y3 = Squeeze (y4, second)
        y = Transpose <perm = [1, 0, 2]> (y3)
        every = Reshape (y, rows)
        emitted = Gather (every, emit)
        location = Gemm (emitted, head, head_bias)
        width_raw = Gemm (emitted, width_head, width_bias)
        squared = Mul (width_raw, width_raw)
        above = Add (squared, four)
        root = Sqrt (above)
        width = Add (width_raw, root)
        flat = Gemm (width, ranks, location)
        quantiles = Reshape (flat, cube)
    }}
    """


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model to a file and return its path."""
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def with_manifest(model: onnx.ModelProto, **changes: object) -> onnx.ModelProto:
    """A copy whose manifest has these entries changed or added; one that is `...` is removed."""
    manifest = {**json.loads(_props(model)[MANIFEST_KEY]), **changes}
    return _with_props(model, {MANIFEST_KEY: json.dumps({k: v for k, v in manifest.items() if v is not ...})})


def without_manifest(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with nothing in its metadata, as any other ONNX file."""
    return _with_props(model, {})


def redeclared(
    model: onnx.ModelProto, tensor: str, *, name: str | None = None, type_: int | None = None, shape: tuple = ()
) -> onnx.ModelProto:
    """A copy that declares one input or output by another name, element type or shape (numbers, or names of open ones).

    Only the declaration changes: onnxruntime may refuse to load what then no longer fits the graph.
    """
    copy = _copy(model)
    info = next(i for i in (*copy.graph.input, *copy.graph.output) if i.name == tensor)
    info.name = name or tensor
    tensor_type = info.type.tensor_type
    tensor_type.elem_type = type_ or tensor_type.elem_type
    if shape:
        tensor_type.CopyFrom(onnx.helper.make_tensor_type_proto(tensor_type.elem_type, shape).tensor_type)
    return copy


def without(model: onnx.ModelProto, tensor: str) -> onnx.ModelProto:
    """A copy that does not declare an input or output; an input must be one that the graph does not use."""
    copy = _copy(model)
    for declared in (copy.graph.input, copy.graph.output):
        for info in [i for i in declared if i.name == tensor]:
            declared.remove(info)
    return copy


def handmade(design: Design | None = None, *, outputs: str, inputs: str = "", body: str) -> onnx.ModelProto:
    """A model from onnx's text form: the contract's inputs plus `inputs`, and whatever `body` makes of them.

    For files that load and declare what they should, and then compute something else.
    """
    d = design or Design()
    declared = ", ".join(filter(None, (d.inputs(), inputs)))
    return _finished(f"{OPSET} handmade ({declared}) => ({outputs}) {{ {body} }}", {}, d.manifest("handmade", "none"))


def _finished(text: str, constants: dict[str, np.ndarray], manifest: dict[str, object]) -> onnx.ModelProto:
    model = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return _with_props(model, {MANIFEST_KEY: json.dumps(manifest)})


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _props(model: onnx.ModelProto) -> dict[str, str]:
    return {prop.key: prop.value for prop in model.metadata_props}


def _with_props(model: onnx.ModelProto, props: dict[str, str]) -> onnx.ModelProto:
    copy = _copy(model)
    del copy.metadata_props[:]
    onnx.helper.set_model_props(copy, props)
    return copy
