"""Who may import whom: the rules that keep the core pure and the runtime without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PURE = {  # the core's only outside help: arrays, JSON and the manifest's model
    "collections", "dataclasses", "datetime", "enum", "functools", "hashlib", "itertools", "json", "math", "operator",
    "re", "struct", "typing", "zlib", "msgspec", "numpy", "orjson", "pydantic", "streamer",
}  # fmt: skip


def imports_of(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("file", modules("streamer/core"), ids=str)
def test_the_core_does_no_io(file):
    for name in imports_of(file):
        assert name.split(".")[0] in PURE, f"{file} imports {name}"
        if name.startswith("streamer"):
            assert name.startswith(("streamer.core.", "streamer.errors.")), f"{file} imports {name}"


@pytest.mark.parametrize("file", modules("streamer/adapters"), ids=str)
def test_adapters_never_import_each_other(file):
    own = file.relative_to(ROOT).with_suffix("").parts[:3]  # an adapter of several modules is a package
    adapters = [name for name in imports_of(file) if name.startswith("streamer.adapters")]
    assert [name for name in adapters if name.split(".")[:3] != list(own)] == []


@pytest.mark.parametrize("file", modules("streamer"), ids=str)
def test_the_runtime_imports_neither_the_trainer_nor_torch(file):
    assert not [name for name in imports_of(file) if name.split(".")[0] in ("training", "torch", "onnx", "polars")]


def test_the_command_line_starts_without_what_only_the_extras_install():
    absent = ["torch", "onnx", "onnxscript", "polars", "matplotlib", "rich", "confluent_kafka", "training"]
    block = f"import sys; sys.modules.update(dict.fromkeys({absent}))"
    code = f"{block}; from streamer.__main__ import main; main(['replay', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
