"""Exported models agree with the network they were made of; checkpoints come back whole or are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import training.export
from streamer.adapters.onnx_session import OnnxModel
from streamer.errors import ConfigError, ContractError
from tests.training.conftest import config_of, hourly, untrained
from training import api
from training.checkpoint import load_checkpoint, save_checkpoint
from training.config import Split
from training.export import export, onnx_bytes
from training.parity import TOLERANCE, compare, hard_cases
from training.providers import CPU, ON_BOTH, check_operators, nodes_of, runs_on
from training.stepping import TorchModel, forecasts

NINE = [i / 10 for i in range(1, 10)]


@pytest.mark.parametrize(
    ("changes", "covariates"),
    [
        ({"model": {"cell": "rnn", "attention": 5, "note": 3, "without": ["skip", "gate"]}, "levels": [0.5]}, 0),
        ({"model": {"cell": "gru", "layers": 2}, "levels": NINE, "horizon": 30}, 0),
        ({"model": {"cell": "lstm", "layers": 2}, "data": {"covariates": ["temp"], "static": ["site"]}}, 1),
        ({"step_ms": None, "model": {"seasons": [], "memory_steps": 20}}, 0),
    ],
    ids=["rnn with attention", "gru", "lstm with covariates and categories", "per event"],
)
def test_the_file_agrees_with_torch_however_the_steps_are_cut(tmp_path, changes, covariates):
    config = config_of(**changes)
    static = ("north",) if covariates else ()
    series = [hourly(250, i, f"s{i}", covariates, static) for i in range(2)]
    fitted = untrained(config, series)
    difference = export(fitted, tmp_path / "model.onnx", series)
    assert difference.forecast <= TOLERANCE
    model = OnnxModel(tmp_path / "model.onnx")
    assert model.manifest == fitted.manifest
    assert not list(tmp_path.glob("*.partial"))


@pytest.fixture(scope="module")
def small():
    """A fitted network, its series and its file's bytes."""
    series = [hourly(250, i, f"s{i}") for i in range(2)]
    fitted = untrained(config_of(), series)
    return fitted, series, onnx_bytes(fitted.network, fitted.manifest)


def test_a_file_that_does_not_agree_is_not_written(tmp_path, small, monkeypatch):
    fitted, series, content = small
    other = onnx.load_model_from_string(content)
    (gru,) = [n for n in other.graph.node if n.op_type == "GRU"]
    reset = next(a for a in gru.attribute if a.name == "linear_before_reset")
    reset.i = 0
    monkeypatch.setattr(training.export, "onnx_bytes", lambda *_: other.SerializeToString())
    with pytest.raises(ContractError, match=r"disagree on .*, case .*; not written"):
        export(fitted, tmp_path / "model.onnx", series)
    assert not list(tmp_path.iterdir())


def test_a_level_that_moves_the_anchor_at_other_steps_in_other_blocks_is_no_disagreement(small):
    fitted, series, _ = small
    value = series[0].value.copy()
    value[150:] = 1e4  # stands still, far from the anchor
    still = replace(series[0], value=value, observed=np.ones_like(series[0].observed))
    models = [TorchModel(fitted.network, fitted.manifest) for _ in range(2)]
    compare(*models, [still]).check("m.onnx")


def test_a_nan_is_a_disagreement(small):
    fitted, series, _ = small
    model = TorchModel(fitted.network, fitted.manifest)
    poisoned = untrained(fitted.config, series)
    with torch.no_grad():
        poisoned.network.head.outer.bias[0] = float("nan")
    difference = compare(model, TorchModel(poisoned.network, poisoned.manifest), series)
    with pytest.raises(ContractError, match="nan"):
        difference.check("m.onnx")


def test_the_hard_cases_have_a_leading_gap_a_gap_longer_than_the_ring_and_large_values(small):
    _, series, _ = small
    cases = dict(hard_cases(series, 48))
    assert not cases["a leading gap"].observed[:20].any()
    longest = "".join("x" if seen else "." for seen in cases["a gap longer than the ring"].observed[:, 0]).split("x")
    assert max(map(len, longest)) > 48
    assert abs(cases["values at 1e6 ± 1"].value - 1e6).max() <= 1


class Shifted:
    """A model whose forecasts beyond 1e5 are off by a third of the signal there."""

    def __init__(self, model):
        self.model, self.manifest, self.signature = model, model.manifest, model.signature

    def advance(self, block, state):
        quantiles, following = self.model.advance(block, state)
        return quantiles + np.float32(0.3) * (np.abs(quantiles) > 1e5), following


def test_a_signal_of_1_on_a_level_of_1e6_is_held_to_the_signal(small):
    fitted, series, _ = small
    model = TorchModel(fitted.network, fitted.manifest)
    compare(model, model, series).check("m.onnx")
    with pytest.raises(ContractError, match="values at 1e6 ± 1"):
        compare(model, Shifted(model), series).check("m.onnx")


def test_data_without_a_value_cannot_show_that_a_file_agrees(small, tmp_path):
    fitted, series, _ = small
    empty = [replace(s, observed=np.zeros_like(s.observed), value=np.zeros_like(s.value)) for s in series]
    with pytest.raises(ConfigError, match="no stream of the data holds a value"):
        export(fitted, tmp_path / "model.onnx", empty)


def test_the_file_keeps_to_operators_that_the_cpu_and_cuda_have(small):
    proto = onnx.load_model_from_string(small[2])
    assert {"GRU", "If", "Gather"} <= {node.op_type for node in nodes_of(proto)} <= ON_BOTH
    inside = next(node for node in nodes_of(proto) if node.op_type == "If").attribute[0].g.node[0]
    inside.op_type = "Det"
    with pytest.raises(ContractError, match="operator Det: not known to have a kernel on CPU"):
        check_operators(proto)
    inside.domain = "com.microsoft"
    with pytest.raises(ContractError, match=r"operator com\.microsoft\.Det: only ONNX's own"):
        check_operators(proto)


def test_a_file_of_another_opset_is_not_written(small):
    proto = onnx.load_model_from_string(small[2])
    proto.opset_import[0].version = 22
    with pytest.raises(ContractError, match="opset 22, expected 20"):
        check_operators(proto)


def test_a_provider_that_is_not_here_is_told_and_one_that_is_is_held_against_torch(small, tmp_path):
    fitted, series, content = small
    path, model = tmp_path / "model.onnx", TorchModel(fitted.network, fitted.manifest)
    path.write_bytes(content)
    assert "none here, so not tried" in runs_on("RocmExecutionProvider", path, model, series)
    assert "torch's agree to" in runs_on(CPU, path, model, series)
    assert "differ by more than the rounding of 1e-05" in runs_on(CPU, path, Shifted(model), series)


def test_the_same_weights_give_the_same_bytes(small):
    fitted, _, content = small
    assert onnx_bytes(fitted.network, fitted.manifest) == content


def test_the_file_says_nothing_of_the_machine_that_made_it(small):
    *_, content = small
    for place in (Path(__file__).parents[2], Path(torch.__file__).parents[2], "site-packages", ".py"):
        assert str(place).encode() not in content


def test_b_t_and_n_are_open_and_n_may_be_zero(small, tmp_path):
    *_, content = small
    (tmp_path / "model.onnx").write_bytes(content)
    model = OnnxModel(tmp_path / "model.onnx")  # tries several of each
    assert model.signature.max_steps is None
    assert {s.name for s in model.signature.states} == {"ring", "anchor", "habit", "hidden"}


def test_over_5000_carried_steps_torch_and_the_file_agree_step_by_step_and_in_blocks(small, tmp_path):
    fitted, _, content = small
    (tmp_path / "model.onnx").write_bytes(content)
    long, origins = hourly(5000), np.arange(4000, 5000)
    models = (TorchModel(fitted.network, fitted.manifest), OnnxModel(tmp_path / "model.onnx"))
    ways = [(models[0], 128), (models[0], 1000), (models[1], 1), (models[1], 128), (models[1], 1000)]
    expected, *others = (
        np.concatenate([q for _, _, q in forecasts(model, [long], [0], [origins], steps)]) for model, steps in ways
    )
    size = np.maximum(np.abs(expected), np.nanstd(long.target))
    for found in others:
        assert np.max(np.abs(found - expected) / size) < TOLERANCE


def test_python_and_the_command_share_their_entry_points(small, tmp_path):
    fitted, series, content = small
    (tmp_path / "model.onnx").write_bytes(content)
    split = Split(train_end=150, validation_end=200)
    by_torch, by_file = (api.backtest(m, series, split).of("model").sql for m in (fitted, tmp_path / "model.onnx"))
    assert by_file == pytest.approx(by_torch, rel=1e-4)
    quick = config_of(split=split.model_dump(), training={"steps": 2, "validate_every": 2})
    again = api.fit(quick, series)
    assert len(again.history) == 1
    assert len(api.report(again, tmp_path / "report.html", series, stride=9)) == 7  # best and worst of two streams


def test_a_checkpoint_holds_what_an_export_needs(small, tmp_path):
    fitted, *_ = small
    save_checkpoint(replace(fitted, history=((10, 0.5, 0.4),), data="x.csv"), tmp_path / "run.pt")
    loaded = load_checkpoint(tmp_path / "run.pt")
    assert (loaded.history, loaded.data, loaded.config) == (((10, 0.5, 0.4),), "x.csv", fitted.config)
    assert loaded.manifest == fitted.manifest
    weights = fitted.network.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in loaded.network.state_dict().items())


def test_a_checkpoint_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_checkpoint(tmp_path / "absent.pt")
    for content in (
        b"not a checkpoint",
        b"",
        b"\x80\x02.",
        b"PK\x03\x04",
        b"\x80\x02]q\x00.",
        bytes(99),
        b'{"a": 1}\n',
    ):
        (tmp_path / "broken.pt").write_bytes(content)
        with pytest.raises(ConfigError, match="not a checkpoint"):
            load_checkpoint(tmp_path / "broken.pt")
    for content in ([1], {"config": 1}, torch.zeros(1)):
        torch.save(content, tmp_path / "broken.pt")
        with pytest.raises(ConfigError, match="not a checkpoint"):
            load_checkpoint(tmp_path / "broken.pt")
    torch.save({"weights": np.int64(3).item()}, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "other.pt")
