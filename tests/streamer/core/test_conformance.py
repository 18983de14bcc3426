"""A model's promises about numbers: kept by every good model here, and each broken once."""

import time
from dataclasses import replace

import numpy as np
import pytest

from streamer.adapters.onnx_session import OnnxModel
from streamer.core.conformance import check_conformance
from streamer.core.contract import Manifest, Signature, StateSpec
from streamer.demo import MODEL_PATH
from streamer.errors import ContractError
from tests import models


class Mean:
    """Forecasts the mean of a stream's values, its states being their sum and their number; may break one promise."""

    def __init__(self, flaw="", max_steps=None, sums="float32", **design):
        manifest = models.Design(**design).manifest("mean", "none")
        self.manifest = Manifest.model_validate(manifest)
        states = (StateSpec("sum", np.dtype(sums), ()), StateSpec("count", np.dtype("int64"), ()))
        self.signature = Signature(np.dtype("float32"), states, max_steps)
        self.flaw = flaw

    def advance(self, block, state):
        if self.flaw == "steps" and block.time.shape[1] > 1:
            block = replace(block, value=block.value * 1.1)
        total, count = (tensor.copy() for tensor in state)
        if self.flaw == "neighbours":
            total += block.value[:, 0, 0].mean().astype(total.dtype)
        if self.flaw == "nothing emitted" and not len(block.emit):
            count += 1
        means = np.empty(block.time.shape, np.float32)
        width = block.time.shape[1]
        for b in range(len(block.time)):
            for t in range(width):
                if t < block.length[b] or self.flaw == "padding":
                    total[b] += block.value[b, t, 0]
                    count[b] += int(block.observed[b, t, 0])
                means[b, t] = total[b] / (count[b] or 1)
        return self.quantiles(means.ravel()[block.emit]), [total, count]

    def quantiles(self, means):
        order = {"decreasing": [0, 2, 1]}.get(self.flaw, [0, 1, 2])
        fan = means[:, None, None] + np.array(order, np.float32)
        if self.flaw == "not finite":
            fan[..., 2] = np.inf
        return np.repeat(fan, self.manifest.horizon + (self.flaw == "horizon"), axis=1)


class Failing(Mean):
    def advance(self, block, state):
        if len(block.time) > 1:
            raise RuntimeError("no kernel\nand more")
        return super().advance(block, state)


class Sticky(Mean):
    """A state that is not finite although every forecast is."""

    def advance(self, block, state):
        quantiles, (total, count) = super().advance(block, [np.nan_to_num(tensor) for tensor in state])
        return quantiles, [np.full_like(total, np.nan), count]


class Growing(Mean):
    def advance(self, block, state):
        quantiles, (total, count) = super().advance(block, state)
        return quantiles, [np.concatenate((total, total)), count]


class Logarithm(Mean):
    """Of positive quantities only: what it forecasts of a negative mean is NaN."""

    def quantiles(self, means):
        with np.errstate(invalid="ignore", divide="ignore"):
            return super().quantiles(np.where(means < 0, np.nan, means))


@pytest.mark.parametrize(
    "model",
    [Mean(), Mean(max_steps=1), Mean(sums="float16"), Mean(step_ms=None), Mean(static={"site": ("a", "b"), "x": ()}),
     Mean(covariates=("temp",)), Mean(step_ms=3_162_240_000_000, offset_ms=-(10**14)), Logarithm(),
     Mean("padding", max_steps=1)],
)  # fmt: skip
def test_a_model_that_keeps_its_promises_is_accepted(model):
    check_conformance(model, "m")


@pytest.mark.parametrize(
    "model",
    [
        models.echo(),
        models.echo(fixed_steps=True),
        models.echo(value_dtype="float64", covariates=("temp",), static={"site": ("a",)}),
        models.echo(step_ms=None, poison=(-999.0, np.inf)),
        models.gru(),
        models.gru(hidden=64, horizon=24, value_dtype="float64", covariates=("a", "b")),
    ],
)
def test_the_hand_made_models_are_accepted(model, tmp_path):
    check_conformance(OnnxModel(models.save(model, tmp_path / "m.onnx")), "m")


def test_the_packed_model_is_accepted_in_no_time():
    model = OnnxModel(MODEL_PATH)
    seconds = []
    for _ in range(5):
        begin = time.process_time()
        check_conformance(model, "m")
        seconds.append(time.process_time() - begin)
    assert min(seconds) < 0.05


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Mean("not finite"), 'plain values must give finite numbers: "quantiles" of a stream without a value holds i'),
        (Sticky(), 'plain values must give finite numbers: "next_state_sum" of a stream without a value holds nan'),
        (Mean("decreasing"), "quantiles must not decrease with their level: at step 1 of a stream without a value, "
                             "lead 1, level 0.5 is 2 and level 0.9 is 1"),
        (Mean("nothing emitted"), 'a step without a forecast must leave the same state: "next_state_count" of '
                                  "a stream without a value should hold 0, found 1"),
        (Mean("neighbours"), "a stream's result must not depend on the others in its block: \"quantiles\" of"),
        (Mean("neighbours", max_steps=1), "a stream's result must not depend on the others in its block"),
        (Mean("steps"), "3 steps in one call must give what they give one by one: \"quantiles\" of a stream of small "
                        "values should hold 0.25, found 0.275"),
        (Mean("padding"), "padding must change nothing: \"next_state_sum\" of a stream without a value should hold 0, "
                          "found 15554"),
        (Mean("horizon"), 'manifest says horizon 3 and 3 levels, so "quantiles" should be (1, 3, 3), found (1, 4, 3)'),
        (Growing(), '"next_state_sum" should be (1,), found (2,)'),
        (Failing(), "fails on plain streams with B=4, T=1, N=4: no kernel"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named_with_the_numbers_found(model, message):
    with pytest.raises(ContractError) as refused:
        check_conformance(model, "m.onnx")
    assert str(refused.value).startswith("m.onnx: " + message)
