"""A model file's bytes: what changes their fingerprint, and weights that are somewhere else."""

import json
import re

import onnx
import pytest
from onnx import TensorProto, helper

from streamer.core.contract import MANIFEST_KEY, Manifest, parse_manifest
from streamer.core.onnx_file import fingerprint, refuse_external_weights
from streamer.errors import ContractError
from tests import models


def manifest_of(model: onnx.ModelProto) -> Manifest:
    return parse_manifest({p.key: p.value for p in model.metadata_props}, "model.onnx")


def print_of(model) -> str:
    return fingerprint(model.SerializeToString(), manifest_of(model))


def test_the_fingerprint_ignores_the_manifest_s_optional_line():
    model = models.echo()
    said = models.with_manifest(model, created="2026-11-23T02:00:00Z", data_digest="sha256:1", scores={"mase": 0.8})
    assert print_of(said) == print_of(model)


def test_the_fingerprint_ignores_who_made_the_file_and_the_order_of_the_manifest():
    model = models.echo()
    text = next(p for p in model.metadata_props if p.key == MANIFEST_KEY)
    before = print_of(model)
    text.value = json.dumps(dict(reversed(json.loads(text.value).items())), indent=1)
    model.producer_name, model.producer_version, model.model_version = "another exporter", "9", 9
    assert print_of(model) == before


@pytest.mark.parametrize(
    "change", [{"version": "2"}, {"offset_ms": 1}, {"warmup_steps": 1}, {"levels": [0.1, 0.5, 0.8]}]
)
def test_the_fingerprint_changes_with_every_other_entry_of_the_manifest(change):
    assert print_of(models.with_manifest(models.echo(), **change)) != print_of(models.echo())


def test_the_fingerprint_changes_with_a_weight():
    assert print_of(models.gru(seed=1)) != print_of(models.gru(seed=2))
    assert print_of(models.gru(seed=1)) == print_of(models.gru(seed=1))


def test_the_fingerprint_changes_with_the_operator_set():
    model = models.echo()
    before = print_of(model)
    model.opset_import[0].version += 1
    assert print_of(model) != before


def test_the_fingerprint_skips_protobuf_fields_of_fixed_size():
    manifest, model = manifest_of(models.echo()), models.echo().SerializeToString()
    fixed_32, fixed_64 = b"\xf5\x06" + bytes(4), b"\xf1\x06" + bytes(8)  # field 110, wire types 5 and 1
    assert fingerprint(fixed_32 + model + fixed_64, manifest) == fingerprint(model, manifest)


@pytest.mark.parametrize("garbage", [b"\xff", b"\x3a\x05abc", b"\x3a", b"\x0b\x0c", b"\xff" * 99], ids=repr)
def test_the_fingerprint_of_a_truncated_or_foreign_file_is_refused(garbage):
    with pytest.raises(ContractError, match="echo@1: its file is truncated or not an ONNX model"):
        fingerprint(garbage, manifest_of(models.echo()))


# external weights


def outside() -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def node_with(**attributes) -> onnx.NodeProto:
    return helper.make_node("Any", [], ["y"], **attributes)


def graph_with(*nodes, initializer=()) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "g", [], [], initializer)


def sparse() -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=outside(), dims=[1])


def with_nodes(*nodes) -> onnx.ModelProto:
    model = models.echo()
    model.graph.node.extend(nodes)
    return model


def with_initializer() -> onnx.ModelProto:
    model = models.echo()
    model.graph.initializer.append(outside())
    return model


def with_sparse_initializer() -> onnx.ModelProto:
    model = models.echo()
    model.graph.sparse_initializer.append(sparse())
    return model


def with_function() -> onnx.ModelProto:
    model = models.echo()
    model.functions.add(name="f", domain="d").node.append(node_with(value=outside()))
    return model


PLACES = {
    "an initializer": with_initializer(),
    "a sparse initializer": with_sparse_initializer(),
    "a node's attribute": with_nodes(node_with(value=outside())),
    "one of an attribute's tensors": with_nodes(node_with(values=[outside()])),
    "an attribute's sparse tensor": with_nodes(node_with(value=sparse())),
    "a branch of a branch": with_nodes(node_with(body=graph_with(node_with(body=graph_with(initializer=[outside()]))))),
    "a function": with_function(),
}


@pytest.mark.parametrize("model", PLACES.values(), ids=PLACES)
def test_weights_in_another_file_are_refused_wherever_they_are_named(model):
    with pytest.raises(ContractError, match=re.escape("m.onnx: some of its weights are in another file")):
        refuse_external_weights(model.SerializeToString(), "m.onnx")


@pytest.mark.parametrize("model", [models.echo(), models.gru(static={"site": ("north",)})])
def test_weights_inside_the_file_are_accepted(model):
    refuse_external_weights(model.SerializeToString(), "m.onnx")


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"\x3a\x05abc", b"\x0b\x0c"], ids=repr)
def test_bytes_that_are_no_model_are_left_to_whoever_loads_them(garbage):
    refuse_external_weights(garbage, "m.onnx")
