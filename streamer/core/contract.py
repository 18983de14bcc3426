"""The model contract, version 1: what the daemon knows about a model, and the refusal of anything else.

A model is one ONNX file that advances B streams by up to T steps each and forecasts at the
positions asked for. Its manifest travels in the file's metadata under `tidecast.manifest`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamer.errors import ContractError

MANIFEST_KEY = "tidecast.manifest"
OPTIONAL_LINE = ("created", "data_digest", "scores")  # facts about the file, not about what it computes
STATE_PREFIX, NEXT_STATE_PREFIX = "state_", "next_state_"
MAX_STEP_MS = 100 * 366 * 86_400_000  # a century; a million steps of it are still within int64
MAX_OFFSET_MS = 253_402_300_799_999  # the last millisecond of year 9999, as for events
MAX_NUMBERS = (
    100_000  # of one forecast, horizon times levels: some 1 MB, the largest record that Kafka takes by default
)
MAX_STEPS = 1_000_000_000
MAX_COUNT = 255  # of states, of categories, and of the bytes of a state's name: a snapshot has a byte for each
MAX_STATE_BYTES = 1 << 26  # of one stream: a snapshot of it is a Kafka record
STATE_DTYPES = frozenset(map(np.dtype, ("float16", "float32", "float64", "int32", "int64", "bool")))

Array = npt.NDArray[np.generic]
Taken = list[Any]  # states (B, …), one per tensor, as a model takes them: arrays, or what its device has
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^@\s]+$")]


class Manifest(BaseModel):
    """What a model file says of itself.

    step_ms is null for grid "per_event". Static codes are positions in a category's vocabulary plus 1;
    0 is an unknown value. Before `warmup_steps` since a fresh start, a forecast is marked not warm.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    contract: Literal[1]
    name: Name
    version: Name
    cell: str
    grid: Literal["regular", "per_event"]
    step_ms: Annotated[int, Field(ge=1, le=MAX_STEP_MS)] | None
    offset_ms: Annotated[int, Field(ge=-MAX_OFFSET_MS, le=MAX_OFFSET_MS)] = 0
    horizon: Annotated[int, Field(ge=1, le=MAX_NUMBERS)]
    levels: tuple[Annotated[float, Field(gt=0, lt=1)], ...]
    covariates: Annotated[tuple[str, ...], Field(max_length=MAX_COUNT)] = ()
    static: Annotated[dict[str, tuple[str, ...]], Field(max_length=MAX_COUNT)] = {}
    warmup_steps: Annotated[int, Field(ge=0, le=MAX_STEPS)]
    created: str | None = None
    data_digest: str | None = None
    scores: dict[str, object] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        if (self.grid == "regular") != (self.step_ms is not None):
            raise ValueError(
                'step_ms must be a number on a "regular" grid and null on a "per_event" one, '
                f"found grid {self.grid!r} with step_ms {self.step_ms}"
            )
        if not self.levels or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels must be increasing, found {list(self.levels)}")
        if self.horizon * len(self.levels) > MAX_NUMBERS:
            raise ValueError(
                f"a forecast may hold {MAX_NUMBERS} numbers, found horizon {self.horizon} "
                f"with {len(self.levels)} levels"
            )
        for what, names in (("covariates", self.covariates), *self.static.items()):
            if len(set(names)) != len(names):
                raise ValueError(f"{what} holds a name twice: {list(names)}")
        return self

    @property
    def model_id(self) -> str:
        """`name@version`, as each forecast carries it."""
        return f"{self.name}@{self.version}"


def parse_manifest(metadata: Mapping[str, str], path: str) -> Manifest:
    """The manifest in an ONNX file's `metadata_props`. Raises ContractError if it is absent or wrong."""
    text = metadata.get(MANIFEST_KEY)
    if text is None:
        raise ContractError(
            f'{path}: no "{MANIFEST_KEY}" in its metadata, so this is not a Tidecast model; '
            "export it with `training export`"
        )
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "manifest"
        whole = isinstance(first["input"], dict)  # a missing entry, or entries that disagree: the message names them
        found = "" if whole else f", found {first['input']!r:.200}"
        raise ContractError(
            f"{path}: its manifest is wrong at {where!r}: {first['msg'].removeprefix('Value error, ')}{found}; "
            "export it again with `training export`"
        ) from None


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's name, element type and shape; None is a dimension that the file leaves open."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        dims = ", ".join("?" if d is None else str(d) for d in self.shape)
        return f'"{self.name}" {self.dtype} ({dims})'


@dataclass(frozen=True)
class StateSpec:
    """One state tensor of a stream: its name without the prefix, element type, and shape without B."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """What a checked file's tensors leave to know.

    value_dtype  float32 or float64
    max_steps    1 for a file whose T is fixed at 1, else None
    """

    value_dtype: np.dtype[np.generic]
    states: tuple[StateSpec, ...]
    max_steps: int | None


@dataclass(frozen=True)
class Block:
    """Padded sequences that one model call advances together: the contract's inputs but the state.

    value     (B, T, 1+P)  value_dtype: target, then past covariates; 0 where not observed
    observed  (B, T, 1+P)  float32: 1 observed, 0 missing
    time      (B, T)       int64: UTC epoch milliseconds of each step
    length    (B,)         int64: real steps of each row, 1 ≤ length ≤ T
    emit      (N,)         int64: flat positions b·T + t whose forecasts are wanted
    static    (B, C)       int64: category codes, 0 unknown
    """

    value: Array
    observed: npt.NDArray[np.float32]
    time: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    emit: npt.NDArray[np.int64]
    static: npt.NDArray[np.int64]


class Model(Protocol):
    """A loaded model: the only thing the engine knows of it."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def signature(self) -> Signature: ...

    def advance(self, block: Block, state: Sequence[Any]) -> tuple[npt.NDArray[np.float32], Taken]:
        """Quantiles (N, H, Q) at the emitted positions, and every row's state after its last step."""
        ...


def check_signature(
    manifest: Manifest, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], path: str
) -> Signature:
    """Hold a file's tensors against the contract and its own manifest.

    Raises ContractError with what was expected and what was found.
    """
    found_in = {spec.name: spec for spec in inputs}
    found_out = {spec.name: spec for spec in outputs}
    channels, categories = 1 + len(manifest.covariates), len(manifest.static)
    floats = (np.dtype("float32"), np.dtype("float64"))

    steps = found_in["value"].shape[1:2] if "value" in found_in else ()
    step = 1 if steps == (1,) else None
    value = _expect(path, "input", found_in, "value", floats, (None, step, channels))
    _expect(path, "input", found_in, "observed", floats[:1], (None, step, channels))
    _expect(path, "input", found_in, "time", (np.dtype("int64"),), (None, step))
    _expect(path, "input", found_in, "length", (np.dtype("int64"),), (None,))
    _expect(path, "input", found_in, "emit", (np.dtype("int64"),), (None,))
    if categories:
        _expect(path, "input", found_in, "static", (np.dtype("int64"),), (None, categories))
    _expect(path, "output", found_out, "quantiles", floats[:1], (None, manifest.horizon, len(manifest.levels)))

    states = tuple(_states(path, found_in, found_out))
    _refuse_too_much(path, states)
    known = {"value", "observed", "time", "length", "emit", "quantiles"} | ({"static"} if categories else set())
    known |= {prefix + s.name for s in states for prefix in (STATE_PREFIX, NEXT_STATE_PREFIX)}
    if unknown := (found_in.keys() | found_out.keys()) - known:
        raise ContractError(
            f"{path}: unexpected tensor {sorted(unknown)[0]!r}; the contract knows {', '.join(sorted(known))}"
        )
    return Signature(value.dtype, states, step)


def _states(path: str, found_in: Mapping[str, TensorSpec], found_out: Mapping[str, TensorSpec]) -> Iterator[StateSpec]:
    names = [n.removeprefix(STATE_PREFIX) for n in found_in if n.startswith(STATE_PREFIX)]
    orphans = {n.removeprefix(NEXT_STATE_PREFIX) for n in found_out if n.startswith(NEXT_STATE_PREFIX)} - {*names}
    if orphans:
        raise ContractError(f'{path}: output "next_state_{min(orphans)}" has no input "state_{min(orphans)}"')
    for name in names:
        spec = found_in[STATE_PREFIX + name]
        tail = tuple(d for d in spec.shape[1:] if d is not None)
        if spec.dtype not in STATE_DTYPES or spec.shape != (None, *tail):
            raise ContractError(
                f"{path}: expected input {STATE_PREFIX + name!r} to be one of "
                f"{', '.join(sorted(map(str, STATE_DTYPES)))} with an open B and fixed other dimensions, found {spec}"
            )
        _expect(path, "output", found_out, NEXT_STATE_PREFIX + name, (spec.dtype,), spec.shape)
        yield StateSpec(name, spec.dtype, tail)


def _refuse_too_much(path: str, states: Sequence[StateSpec]) -> None:
    size = sum(s.dtype.itemsize * math.prod(s.shape) for s in states)
    if size > MAX_STATE_BYTES:
        raise ContractError(f"{path}: a stream's state may have {MAX_STATE_BYTES} bytes, found {size}; make it smaller")
    if len(states) > MAX_COUNT:
        raise ContractError(f"{path}: a model may have {MAX_COUNT} states, found {len(states)}; join some")
    for name in (s.name for s in states):
        if len(name.encode()) > MAX_COUNT:
            raise ContractError(f"{path}: a state's name may have {MAX_COUNT} bytes, found {name!r:.50}…; shorten it")


def _expect(
    path: str,
    side: str,
    found: Mapping[str, TensorSpec],
    name: str,
    dtypes: tuple[np.dtype[np.generic], ...],
    shape: tuple[int | None, ...],
) -> TensorSpec:
    """An open dimension must be open in an input; an output may leave open what the graph only knows later."""
    expected = " or ".join(map(str, dtypes)) + " " + str(TensorSpec(name, dtypes[0], shape)).split(" ", 2)[2]
    spec = found.get(name)
    if spec is None:
        raise ContractError(f'{path}: {side} "{name}" is missing, expected {expected}; export it again')
    same = len(spec.shape) == len(shape) and all(
        f == e or (side == "output" and (f is None or e is None)) for f, e in zip(spec.shape, shape, strict=True)
    )
    if spec.dtype not in dtypes or not same:
        raise ContractError(
            f"{path}: {side} {name!r}: the manifest and the contract ask for {expected}, found {spec}; "
            "export it again with `training export`"
        )
    return spec
