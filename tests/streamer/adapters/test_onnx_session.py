"""A model file on onnxruntime: what is loaded, what is refused, and what a block gives."""

import math
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from streamer.adapters.onnx_session import OnnxModel, session
from streamer.core.contract import Block
from streamer.core.held import HeldHere
from streamer.errors import ConfigError, ContractError
from tests import models

EMPTY_QUANTILES = """
    positions = Cast <to = 1> (emit)
    zeros = Sub (positions, positions)
    column = Constant <value_ints = [-1, 1, 1]> ()
    cube = Reshape (zeros, column)
"""


@pytest.fixture
def load(tmp_path):
    def load(model, **options):
        path = tmp_path / "model.onnx"
        if isinstance(model, bytes):
            path.write_bytes(model)
        else:
            models.save(model, path)
        return OnnxModel(path, **options)

    return load


@pytest.fixture
def refusal(load):
    def refusal(model) -> str:
        with pytest.raises(ContractError) as refused:
            load(model)
        return str(refused.value)

    return refusal


def block(model: OnnxModel, rows: list[list[float | None]], static=()) -> Block:
    """Rows of hourly targets, None where missing, padded with values that must not matter; every step is emitted."""
    lengths = [len(row) for row in rows]
    shape = (len(rows), max(lengths), 1 + len(model.manifest.covariates))
    value, observed = np.full(shape, 7777, model.signature.value_dtype), np.ones(shape, np.float32)
    for b, row in enumerate(rows):
        value[b, : len(row), 0] = [v or 0.0 for v in row]
        observed[b, : len(row), 0] = [v is not None for v in row]
    return Block(
        value=value,
        observed=observed,
        time=np.tile(np.arange(shape[1]) * models.HOUR_MS, (len(rows), 1)),
        length=np.array(lengths),
        emit=np.array([b * shape[1] + t for b, n in enumerate(lengths) for t in range(n)]),
        static=np.array(static, np.int64).reshape(len(rows), -1),
    )


def new_state(model: OnnxModel, streams: int) -> list[np.ndarray]:
    return [np.zeros((streams, *s.shape), s.dtype) for s in model.signature.states]


# advancing


def test_each_emitted_step_is_forecast_and_padding_changes_nothing(load):
    model = load(models.echo())
    rows = block(model, [[5, None, 8], [2]])
    quantiles, (last, steps, clock) = model.advance(rows, new_state(model, 2))
    expected = [models.echo_forecast(*seen) for seen in ((5, 1), (5, 2), (8, 3), (2, 1))]
    np.testing.assert_array_equal(quantiles, expected)
    np.testing.assert_array_equal(last, [[8], [2]])
    np.testing.assert_array_equal(steps, [3, 1])
    np.testing.assert_array_equal(clock, [2 * models.HOUR_MS, 0])


def test_states_carry_on_from_one_block_to_the_next(load):
    model = load(models.echo())
    _, state = model.advance(block(model, [[5, None]]), new_state(model, 1))
    quantiles, _ = model.advance(block(model, [[None]]), state)
    np.testing.assert_array_equal(quantiles, [models.echo_forecast(last=5, steps=3)])


def test_static_codes_belong_to_their_row(load):
    model = load(models.echo(static={"site": ("north", "south"), "kind": ("a",)}))
    quantiles, _ = model.advance(block(model, [[5, 6], [1]], static=[[2, 1], [0, 1]]), new_state(model, 2))
    expected = [models.echo_forecast(*seen) for seen in ((5, 1, 3), (6, 2, 3), (1, 1, 1))]
    np.testing.assert_array_equal(quantiles, expected)


def test_values_of_double_precision_reach_the_graph_whole(load):
    model = load(models.echo(value_dtype="float64"))
    _, (last, *_) = model.advance(block(model, [[2.0**53 - 1]]), new_state(model, 1))
    assert last.dtype == np.float64
    assert last[0, 0] == 2.0**53 - 1


def test_nothing_emitted_gives_no_forecasts_and_the_same_state(load):
    model = load(models.echo(covariates=("temp",)))
    rows = replace(block(model, [[5, 6]] * 3), emit=np.zeros(0, np.int64))
    quantiles, (_, steps, _) = model.advance(rows, new_state(model, 3))
    assert quantiles.shape == (0, 3, 3)
    np.testing.assert_array_equal(steps, [2, 2, 2])


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_the_hand_made_model_s_broken_state_stays_broken_and_in_its_row(load, poison):
    model = load(models.echo(poison=(-999, poison)))
    _, (last, *_) = model.advance(block(model, [[1, -999, 3, 4], [1, 2, 3, 4]]), new_state(model, 2))
    assert not np.isfinite(last[0]).any()
    np.testing.assert_array_equal(last[1], [4])


@pytest.mark.parametrize("value_dtype", ["float32", "float64"])
def test_the_hand_made_gru_gives_the_same_in_one_block_and_step_by_step(load, value_dtype):
    model = load(models.gru(value_dtype=value_dtype))
    values = [40.0, None, 55.0, 61.5, None, None, 48.25]
    at_once, (end,) = model.advance(block(model, [values, values[:2]]), new_state(model, 2))
    state, one_by_one = new_state(model, 1), []
    for hour, value in enumerate(values):
        step = block(model, [[value]])
        step.time[:] = hour * models.HOUR_MS
        quantiles, state = model.advance(step, state)
        one_by_one.append(quantiles[0])
    np.testing.assert_allclose(at_once[: len(values)], one_by_one, rtol=1e-5)
    np.testing.assert_allclose(end[0], state[0][0], atol=1e-6)
    assert (np.diff(at_once, axis=-1) > 0).all()


# loading


def test_a_loaded_model_says_what_it_is(load):
    model = load(models.gru(hidden=8, step_ms=None, covariates=("temp",)))
    assert model.manifest.model_id == "gru-8@1"
    assert model.manifest.step_ms is None
    assert model.signature.states[0].shape == (8,)
    assert model.providers == ("CPUExecutionProvider",)
    assert len(model.fingerprint) == 64


def test_a_file_of_single_steps_is_loaded_as_one(load):
    model = load(models.echo(fixed_steps=True))
    assert model.signature.max_steps == 1
    quantiles, _ = model.advance(block(model, [[5], [6]]), new_state(model, 2))
    np.testing.assert_array_equal(quantiles, [models.echo_forecast(5, 1), models.echo_forecast(6, 1)])


def test_a_model_without_state_is_accepted(load):
    body = EMPTY_QUANTILES + "shape = Constant <value_ints = [1, 3, 3]> () quantiles = Expand (cube, shape)"
    assert load(models.handmade(outputs="float[N, 3, 3] quantiles", body=body)).signature.states == ()


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_no_forecast(load, threads):
    model = load(models.echo(), threads=threads)
    quantiles, _ = model.advance(block(model, [[5]]), new_state(model, 1))
    np.testing.assert_array_equal(quantiles, [models.echo_forecast(5, 1)])


def test_a_missing_file_is_a_wrong_setting_and_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"model\.path: cannot read '.*absent\.onnx': No such file"):
        OnnxModel(tmp_path / "absent.onnx")
    with pytest.raises(ConfigError, match=r"model\.path: cannot read .*: Is a directory; name a model file"):
        OnnxModel(tmp_path)


def test_a_provider_that_is_not_there_is_refused_with_those_that_are(load):
    with pytest.raises(ConfigError, match=r"model\.providers: 'Abacus' is not available here, found .*CPUExecution"):
        load(models.echo(), providers=("Abacus", "CPUExecutionProvider"))


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_onnxruntime_would_silently_replace_is_refused(load, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(ConfigError, match="'CUDAExecutionProvider' could not be started here, found CPUExecution"):
        load(models.echo(), providers=("CUDAExecutionProvider", "CPUExecutionProvider"))


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("available", [[], ["CUDAExecutionProvider"]])
def test_the_cpu_serves_instead_and_says_so_where_it_may(load, monkeypatch, caplog, available):
    monkeypatch.setattr(ort, "get_available_providers", lambda: [*available, "CPUExecutionProvider"])
    model = load(models.echo(), providers=("CUDAExecutionProvider",), cpu_fallback=True)
    assert model.providers == ("CPUExecutionProvider",)
    (line,) = caplog.messages
    assert line.startswith("event=provider_replaced by=CPUExecutionProvider reason=\"model.providers: 'CUDA")
    assert isinstance(model.hold(model.signature.states, 1), HeldHere)


def test_a_model_on_a_device_has_its_states_there(load, monkeypatch):
    made = []
    monkeypatch.setattr(session, "HeldOnDevice", lambda *given: made.append(given))
    model = load(models.echo())
    for provider in ("CUDAExecutionProvider", "TensorrtExecutionProvider"):
        model.providers = (provider, "CPUExecutionProvider")
        model.hold(model.signature.states, 7)
        rows_moved_by = ("CUDAExecutionProvider", "CPUExecutionProvider")
        assert made.pop() == (model.signature.states, 7, "cuda", rows_moved_by)
        assert isinstance(model.hold((), 7), HeldHere)  # a model without states has nothing to hold


# refusals


@pytest.mark.parametrize("content", [b"", b"hello world " * 20, b"\x00\xff" * 100, b"PK\x03\x04"], ids=repr)
def test_a_file_that_is_no_onnx_model_is_refused(refusal, content):
    message = refusal(content)
    assert "model.onnx: not an ONNX model that onnxruntime" in message
    assert message.endswith("export it again with `training export`")


def test_a_file_cut_off_anywhere_is_refused(refusal):
    content = models.echo().SerializeToString()
    for size in range(0, len(content), 41):
        assert "model.onnx: n" in refusal(content[:size])  # not an ONNX model, or no manifest


def test_another_s_onnx_model_is_refused(refusal):
    assert 'no "tidecast.manifest" in its metadata' in refusal(models.without_manifest(models.echo()))


def test_a_horizon_that_disagrees_with_the_manifest_is_refused_with_both(refusal):
    message = refusal(models.with_manifest(models.echo(horizon=3), horizon=24))
    assert 'ask for float32 (?, 24, 3), found "quantiles" float32 (?, 3, 3)' in message


def test_an_input_that_is_not_declared_is_refused(refusal):
    body = EMPTY_QUANTILES + "shape = Constant <value_ints = [1, 3, 3]> () quantiles = Expand (cube, shape)"
    model = models.handmade(outputs="float[N, 3, 3] quantiles", body=body)
    for tensor in ("value", "observed", "time", "length"):
        assert f'input "{tensor}" is missing' in refusal(models.without(model, tensor))


def test_a_fixed_batch_is_refused(refusal):
    assert 'found "emit" int64 (4)' in refusal(models.redeclared(models.gru(), "emit", shape=(4,)))


@pytest.mark.parametrize("type_", ["string", "bfloat16"])
def test_a_state_of_a_foreign_type_is_refused(refusal, type_):
    body = (
        EMPTY_QUANTILES
        + """
        shape = Constant <value_ints = [1, 3, 3]> ()
        quantiles = Expand (cube, shape)
        next_state_x = Identity (state_x)"""
    )
    outputs = f"float[N, 3, 3] quantiles, {type_}[B, 2] next_state_x"
    message = refusal(models.handmade(inputs=f"{type_}[B, 2] state_x", outputs=outputs, body=body))
    assert "expected input 'state_x' to be one of bool, float16" in message


def test_weights_in_another_file_are_refused_before_that_is_read(refusal, tmp_path):
    onnx.save(models.gru(), tmp_path / "model.onnx", save_as_external_data=True, size_threshold=0)
    assert "some of its weights are in another file" in refusal((tmp_path / "model.onnx").read_bytes())


def test_an_output_that_was_left_open_and_comes_out_wrong_is_refused(refusal):
    body = (
        EMPTY_QUANTILES
        + """
        horizon = Constant <value_ints = [12]> ()
        counted = Add (horizon, no_leads)
        one = Constant <value_ints = [1]> ()
        levels = Constant <value_ints = [3]> ()
        shape = Concat <axis = 0> (one, counted, levels)
        quantiles = Expand (cube, shape)"""
    )
    depends_on_data = "first = Constant <value_ints = [0]> () some = Gather (length, first) no_leads = Sub (some, some)"
    model = models.handmade(outputs="float[N, H, Q] quantiles", body=depends_on_data + body)
    message = refusal(model)
    assert 'manifest says horizon 3 and 3 levels, so "quantiles" should be (1, 3, 3), found (1, 12, 3)' in message


def test_a_next_state_of_another_size_than_its_state_is_refused(refusal):
    body = (
        EMPTY_QUANTILES
        + """
        shape = Constant <value_ints = [1, 3, 3]> ()
        quantiles = Expand (cube, shape)
        next_state_x = Concat <axis = 0> (state_x, state_x)"""
    )
    outputs = "float[N, 3, 3] quantiles, float[M, 2] next_state_x"
    message = refusal(models.handmade(inputs="float[B, 2] state_x", outputs=outputs, body=body))
    assert '"next_state_x" should be (1, 2), found (2, 2)' in message


def test_a_model_that_fails_on_two_streams_is_refused_once_with_the_block_it_failed_on(refusal, capfd):
    body = (
        EMPTY_QUANTILES
        + """
        shape = Constant <value_ints = [1, 3, 3]> ()
        quantiles = Expand (cube, shape)
        only_one = Constant <value_ints = [1, 2]> ()
        next_state_x = Reshape (state_x, only_one)"""
    )
    outputs = "float[N, 3, 3] quantiles, float[M, 2] next_state_x"
    message = refusal(models.handmade(inputs="float[B, 2] state_x", outputs=outputs, body=body))
    assert "fails on plain streams with B=4, T=1, N=4" in message
    assert capfd.readouterr().err == ""  # onnxruntime logs what it raises


SEQUENCE = """
    empty = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    last = Constant <value_ints = [2]> ()
    weights = Constant <value = float[1, 1, 2] {0.5, 0.0}> ()
    recurrent = Constant <value = float[1, 1, 1] {0.5}> ()
    seen = Mul (value, observed)
    both = Concat <axis = 2> (seen, observed)
    by_step = Transpose <perm = [1, 0, 2]> (both)
    h0 = Unsqueeze (state_h, empty)
    steps = Cast <to = 6> (length)
    y4, hn = RNN <hidden_size = 1> (by_step, weights, recurrent, , LENGTHS, h0)
    next_state_h = Squeeze (hn, empty)
    y3 = Squeeze (y4, one)
    y = Transpose <perm = [1, 0, 2]> (y3)
    rows = Constant <value_ints = [-1, 1]> ()
    every = Reshape (y, rows)
    mine = Gather (every, emit)
    mean = ReduceMean <keepdims = 1> (mine, empty)
    nothing = Sub (mine, mine)
    average = Add (nothing, mean)
    emitted = Identity (EMITTED)
    column = Constant <value_ints = [-1, 1, 1]> ()
    cube = Reshape (emitted, column)
    offsets = Constant <value = float[1, 1, 3] {OFFSETS}> ()
    fan = Add (cube, offsets)
    shape = Constant <value_ints = [1, 3, 3]> ()
    quantiles = Expand (fan, shape)
"""


def sequence(lengths="steps", emitted="mine", offsets="-1.0, 0.0, 1.0"):
    """A recurrent model that keeps the contract, unless something else is asked for."""
    body = SEQUENCE.replace("LENGTHS", lengths).replace("EMITTED", emitted).replace("OFFSETS", offsets)
    outputs = "float[N, 3, 3] quantiles, float[B, 1] next_state_h"
    return models.handmade(inputs="float[B, 1] state_h", outputs=outputs, body=body)


def test_a_recurrent_model_that_keeps_its_promises_is_accepted(load):
    assert load(sequence()).manifest.name == "handmade"


@pytest.mark.parametrize(
    ("change", "promise", "found"),
    [
        ({"lengths": ""}, "padding must change nothing", '"next_state_h" of a stream without a value should hold'),
        ({"emitted": "average"}, "must not depend on the others in its block", '"quantiles" of a stream'),
        ({"offsets": "1.0, 0.0, 2.0"}, "must not decrease with their level", "level 0.1 is 1 and level 0.5 is 0"),
        (
            {"offsets": "-1.0, 0.0, nan"},
            "must give finite numbers",
            '"quantiles" of a stream without a value holds nan',
        ),
    ],
    ids=["no sequence_lens", "mean of the block", "decreasing", "NaN"],
)
def test_a_graph_that_declares_what_it_should_and_breaks_a_promise_is_refused(refusal, change, promise, found):
    message = refusal(sequence(**change))
    assert promise in message
    assert found in message
