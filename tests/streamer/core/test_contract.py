"""The model contract: what a manifest and a file's tensors may be, and how anything else is refused."""

import json
import re

import numpy as np
import pytest

from streamer.core.contract import (
    MANIFEST_KEY,
    Manifest,
    Signature,
    StateSpec,
    TensorSpec,
    check_signature,
    parse_manifest,
)
from streamer.errors import ContractError

MANIFEST = {
    "contract": 1,
    "name": "gru-64",
    "version": "3",
    "cell": "gru",
    "grid": "regular",
    "step_ms": 3_600_000,
    "offset_ms": 0,
    "horizon": 24,
    "levels": [0.1, 0.5, 0.9],
    "covariates": ["temp"],
    "static": {"site": ["north", "south"]},
    "warmup_steps": 168,
}


def manifest(**changes) -> Manifest:
    return Manifest.model_validate({**MANIFEST, **changes})


def parse(text: str) -> Manifest:
    return parse_manifest({MANIFEST_KEY: text}, "model.onnx")


def refusal(**changes) -> str:
    entries = {k: v for k, v in {**MANIFEST, **changes}.items() if v is not ...}
    with pytest.raises(ContractError) as refused:
        parse(json.dumps(entries))
    return str(refused.value)


# the manifest


def test_a_manifest_is_read_as_it_is_written():
    read = parse(json.dumps(MANIFEST))
    assert read == manifest()
    assert read.levels == (0.1, 0.5, 0.9)
    assert read.static == {"site": ("north", "south")}


def test_a_model_is_named_by_its_name_and_version():
    assert manifest().model_id == "gru-64@3"


def test_a_per_event_manifest_has_no_step():
    assert manifest(grid="per_event", step_ms=None).step_ms is None


def test_the_optional_line_may_be_absent_or_there():
    assert manifest().created is None
    assert manifest(scores={"mase": 0.8}).scores == {"mase": 0.8}


def test_metadata_without_a_manifest_is_refused_with_the_key_that_was_expected():
    with pytest.raises(ContractError, match=r'^model\.onnx: no "tidecast\.manifest" in its metadata'):
        parse_manifest({"producer": "someone"}, "model.onnx")


@pytest.mark.parametrize(
    ("changes", "where", "expected", "found"),
    [
        ({"horizon": 0}, "horizon", "greater than or equal to 1", "found 0"),
        ({"horizon": ...}, "horizon", "Field required", ""),
        ({"contract": 2}, "contract", "should be 1", "found 2"),
        ({"grid": "weekly"}, "grid", "'regular' or 'per_event'", "found 'weekly'"),
        ({"name": "two words"}, "name", "should match pattern", "found 'two words'"),
        ({"name": "a@b"}, "name", "should match pattern", "found 'a@b'"),
        ({"version": ""}, "version", "at least 1 character", "found ''"),
        ({"levels": [0.1, 1.0]}, "levels.1", "less than 1", "found 1.0"),
        ({"warmup_steps": 10**9 + 1}, "warmup_steps", "less than or equal to 1000000000", "found 1000000001"),
        ({"step_ms": 10**13}, "step_ms", "less than or equal to 3162240000000", "found 10000000000000"),
        ({"offset_ms": 10**15}, "offset_ms", "less than or equal to 253402300799999", "found 1000000000000000"),
        ({"offset_ms": -(10**15)}, "offset_ms", "greater than or equal to -253402300799999", "found -1000000"),
        ({"offset_ms": 10**30}, "offset_ms", "less than or equal to 253402300799999", "found 1000000"),
        ({"horizon": 10**9}, "horizon", "less than or equal to 100000", "found 1000000000"),
        ({"horizon": 50_000}, "manifest", "a forecast may hold 100000 numbers", "horizon 50000 with 3 levels"),
        ({"covariates": [f"c{i}" for i in range(256)]}, "covariates", "at most 255 items", "256"),
        ({"static": {f"c{i}": [] for i in range(256)}}, "static", "at most 255 items", "not more"),
        ({"warmup_steps": -1}, "warmup_steps", "greater than or equal to 0", "found -1"),
        ({"surplus": True}, "surplus", "not permitted", "found True"),
        ({"step_ms": None}, "manifest", 'a number on a "regular" grid', "found grid 'regular' with step_ms None"),
        ({"grid": "per_event"}, "manifest", 'null on a "per_event"', "found grid 'per_event' with step_ms 3600000"),
        ({"levels": []}, "manifest", "levels must be increasing", "found []"),
        ({"levels": [0.5, 0.1]}, "manifest", "levels must be increasing", "found [0.5, 0.1]"),
        ({"levels": [0.5, 0.5]}, "manifest", "levels must be increasing", "found [0.5, 0.5]"),
        ({"covariates": ["t", "t"]}, "manifest", "covariates holds a name twice", "['t', 't']"),
        ({"static": {"site": ["n", "n"]}}, "manifest", "site holds a name twice", "['n', 'n']"),
    ],
)
def test_a_wrong_manifest_is_refused_with_what_was_expected_and_found(changes, where, expected, found):
    message = refusal(**changes)
    assert message.startswith(f"model.onnx: its manifest is wrong at {where!r}: ")
    assert expected in message
    assert found in message
    assert message.endswith("export it again with `training export`")


@pytest.mark.parametrize("text", ["", "gru", "{", "[]", "null", '{"contract": 1'])
def test_metadata_that_is_no_manifest_is_refused(text):
    with pytest.raises(ContractError, match=r"^model\.onnx: its manifest is wrong at"):
        parse(text)


def test_a_refusal_stays_short_however_long_the_wrong_value_is():
    assert len(refusal(horizon="9" * 100_000)) < 500


# the tensors


def tensors(**changes: TensorSpec | None) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Inputs and outputs that fit MANIFEST, with some replaced, added, or (None) left out."""
    inputs = {
        "value": spec("value", "float32", None, None, 2),
        "observed": spec("observed", "float32", None, None, 2),
        "time": spec("time", "int64", None, None),
        "length": spec("length", "int64", None),
        "emit": spec("emit", "int64", None),
        "static": spec("static", "int64", None, 1),
        "state_h": spec("state_h", "float32", None, 64),
    }
    outputs = {
        "quantiles": spec("quantiles", "float32", None, 24, 3),
        "next_state_h": spec("next_state_h", "float32", None, 64),
    }
    for name, change in changes.items():
        (outputs if name in outputs or name.startswith("next_") else inputs)[name] = change
    return [s for s in inputs.values() if s], [s for s in outputs.values() if s]


def spec(name: str, dtype: str, *shape: int | None) -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), shape)


def check(**changes: TensorSpec | None) -> Signature:
    return check_signature(manifest(), *tensors(**changes), "model.onnx")


def test_a_file_that_keeps_the_contract_is_accepted_with_its_states():
    assert check() == Signature(np.dtype("float32"), (StateSpec("h", np.dtype("float32"), (64,)),), None)


def test_values_may_be_double():
    assert check(value=spec("value", "float64", None, None, 2)).value_dtype == np.float64


def test_a_file_whose_steps_are_fixed_at_one_is_accepted_as_such():
    one_step = {
        "value": spec("value", "float32", None, 1, 2),
        "observed": spec("observed", "float32", None, 1, 2),
        "time": spec("time", "int64", None, 1),
    }
    assert check(**one_step).max_steps == 1


def test_a_model_may_have_no_state_and_no_categories():
    inputs, outputs = tensors(state_h=None, next_state_h=None, static=None)
    assert check_signature(manifest(static={}), inputs, outputs, "model.onnx").states == ()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64", "bool"])
def test_a_state_may_be_of_every_type_in_the_contract_and_of_any_rank(dtype):
    for tail in ((), (5,), (7, 3)):
        found = check(
            state_x=spec("state_x", dtype, None, *tail), next_state_x=spec("next_state_x", dtype, None, *tail)
        )
        assert StateSpec("x", np.dtype(dtype), tail) in found.states


def test_an_output_may_leave_open_what_only_the_graph_knows():
    open_outputs = {
        "quantiles": spec("quantiles", "float32", None, None, None),
        "next_state_h": spec("next_state_h", "float32", None, None),
    }
    assert check(**open_outputs).states[0].shape == (64,)


@pytest.mark.parametrize(
    ("name", "wrong", "expected"),
    [
        ("value", spec("value", "int64", None, None, 2), "float32 or float64 (?, ?, 2)"),
        ("value", spec("value", "float32", None, None, 1), "float32 or float64 (?, ?, 2)"),
        ("value", spec("value", "float32", None, 5, 2), "float32 or float64 (?, ?, 2)"),
        ("value", spec("value", "float32", 1, None, 2), "float32 or float64 (?, ?, 2)"),
        ("value", spec("value", "float32", None), "float32 or float64 (?, ?, 2)"),
        ("observed", spec("observed", "float64", None, None, 2), "float32 (?, ?, 2)"),
        ("observed", spec("observed", "float32", None, 1, 2), "float32 (?, ?, 2)"),
        ("time", spec("time", "float32", None, None), "int64 (?, ?)"),
        ("length", spec("length", "int32", None), "int64 (?)"),
        ("emit", spec("emit", "int64", None, None), "int64 (?)"),
        ("static", spec("static", "int64", None, 2), "int64 (?, 1)"),
        ("quantiles", spec("quantiles", "float32", None, 12, 3), "float32 (?, 24, 3)"),
        ("quantiles", spec("quantiles", "float64", None, 24, 3), "float32 (?, 24, 3)"),
        ("quantiles", spec("quantiles", "float32", None, 24), "float32 (?, 24, 3)"),
        ("next_state_h", spec("next_state_h", "float16", None, 64), "float32 (?, 64)"),
        ("next_state_h", spec("next_state_h", "float32", None, 32), "float32 (?, 64)"),
    ],
)
def test_a_wrong_tensor_is_refused_with_what_was_expected_and_found(name, wrong, expected):
    with pytest.raises(ContractError) as refused:
        check(**{name: wrong})
    assert f"{name!r}: the manifest and the contract ask for {expected}, found {wrong}; export it" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("value", 'input "value" is missing, expected float32 or float64 (?, ?, 2)'),
        ("observed", 'input "observed" is missing, expected float32 (?, ?, 2)'),
        ("time", 'input "time" is missing, expected int64 (?, ?)'),
        ("length", 'input "length" is missing, expected int64 (?)'),
        ("emit", 'input "emit" is missing, expected int64 (?)'),
        ("static", 'input "static" is missing, expected int64 (?, 1)'),
        ("quantiles", 'output "quantiles" is missing, expected float32 (?, 24, 3)'),
        ("next_state_h", 'output "next_state_h" is missing, expected float32 (?, 64)'),
    ],
)
def test_a_missing_tensor_is_refused_with_what_was_expected(name, message):
    with pytest.raises(ContractError, match=re.escape(f"model.onnx: {message}")):
        check(**{name: None})


@pytest.mark.parametrize(
    "state",
    [
        spec("state_x", "object", None, 4),
        spec("state_x", "int8", None, 4),
        spec("state_x", "float32", 1, 4),
        spec("state_x", "float32", None, None),
        spec("state_x", "float32"),
    ],
)
def test_a_state_that_no_arena_can_hold_is_refused(state):
    with pytest.raises(ContractError, match=re.escape(f"fixed other dimensions, found {state}")):
        check(state_x=state)


def test_a_next_state_without_its_state_is_refused():
    with pytest.raises(ContractError, match='output "next_state_x" has no input "state_x"'):
        check(next_state_x=spec("next_state_x", "float32", None, 4))


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({"x": (1 << 24, 2)}, "a stream's state may have 67108864 bytes, found 134217984; make it smaller"),
        ({f"s{i}": (1,) for i in range(255)}, "a model may have 255 states, found 256; join some"),
        ({"x" * 256: (1,)}, "a state's name may have 255 bytes, found 'xxx"),
    ],
)
def test_more_state_than_a_snapshot_can_hold_is_refused(states, message):
    specs = {
        prefix + name: spec(prefix + name, "float32", None, *shape)
        for name, shape in states.items()
        for prefix in ("state_", "next_state_")
    }
    with pytest.raises(ContractError, match=re.escape(f"model.onnx: {message}")):
        check(**specs)


@pytest.mark.parametrize("name", ["future", "hidden", "next_hidden"])
def test_a_tensor_that_the_contract_does_not_know_is_refused_by_name(name):
    with pytest.raises(ContractError, match=rf"unexpected tensor '{name}'; the contract knows emit, length"):
        check(**{name: spec(name, "float32", None, None)})


def test_categories_that_the_manifest_does_not_name_are_refused():
    with pytest.raises(ContractError, match="unexpected tensor 'static'"):
        check_signature(manifest(static={}), *tensors(), "model.onnx")
