"""A model file's own bytes: their fingerprint, and whether all of the weights are in them.

An ONNX file is a protobuf message. Reading its fields takes a page, and so needs neither the onnx library, which the
daemon does not install, nor a serialisation that could change with that library's version.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping

from streamer.core.contract import OPTIONAL_LINE, Manifest
from streamer.errors import ContractError

# ModelProto's fields that decide what a file computes: graph, opset_import, functions (onnx.proto)
COMPUTING_FIELDS = frozenset({7, 8, 25})
# where tensors can be, in onnx.proto's messages: a field's number → the message it holds
MESSAGES: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external data"},
}


def fingerprint(onnx_file: bytes, manifest: Manifest) -> str:
    """SHA-256, as hex, of the graph, its weights and the manifest without its optional line.

    Taken from the file's own bytes: serialising the graph again would tie saved states to a library's version.

    Raises ContractError if the bytes are not a protobuf message.
    """
    digest = hashlib.sha256()
    try:
        for number, content in _fields(memoryview(onnx_file)):
            if number in COMPUTING_FIELDS:
                digest.update(b"%d:%d:" % (number, len(content)))
                digest.update(content)
    except (IndexError, KeyError):  # the bytes end inside a field, or name a wire type that ONNX does not use
        raise ContractError(
            f"model {manifest.model_id}: its file is truncated or not an ONNX model; export it again"
        ) from None
    core = manifest.model_dump(mode="json", exclude=set(OPTIONAL_LINE))
    digest.update(json.dumps(core, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def refuse_external_weights(onnx_file: bytes, path: str) -> None:
    """Raises ContractError where a tensor's numbers are in another file: no fingerprint would cover them.

    Bytes that are no ONNX model pass; whoever loads them says so.
    """
    unseen = [("model", memoryview(onnx_file))]
    try:
        while unseen:
            kind, message = unseen.pop()
            if kind == "external data":
                raise ContractError(
                    f"{path}: some of its weights are in another file (ONNX external data), expected all inside this "
                    "one; save it again without external data"
                )
            inside = MESSAGES[kind]
            unseen += [(inside[number], content) for number, content in _fields(message) if number in inside]
    except (IndexError, KeyError):
        return


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """A protobuf message's length-delimited fields, in file order, not copied.

    Raises IndexError where the message ends inside a field, KeyError at a wire type that is not in use.
    """
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = varint()
        match tag & 7:
            case 0:
                varint()
            case 2:
                size = varint()
                if at + size > len(message):
                    raise IndexError("the message ends inside a field")
                yield tag >> 3, message[at : at + size]
                at += size
            case kind:
                at += {1: 8, 5: 4}[kind]
