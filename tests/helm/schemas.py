"""JSON schemas of the kinds that the chart makes, from the Go modules that define them: python -m tests.helm.schemas

Strict ones, in which a field that is not known is an error; kubeconform reads them from `.tools/schemas`. The
definitions of custom kinds go to `.tools/crds`, for a cluster that has none.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.helm.chart import CRDS, SCHEMAS

KUBERNETES = "k8s.io/kubernetes@v1.34.4"
PROMETHEUS = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
KEDA = "github.com/kedacore/keda/v2@v2.21.0"
CUSTOM = (  # module, file
    (PROMETHEUS, "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"),
    (PROMETHEUS, "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"),
    (KEDA, "config/crd/bases/keda.sh_scaledobjects.yaml"),
    (KEDA, "config/crd/bases/keda.sh_triggerauthentications.yaml"),
)
BUILT_IN = {  # kind: group, version
    "ConfigMap": ("", "v1"),
    "CronJob": ("batch", "v1"),
    "Job": ("batch", "v1"),
    "NetworkPolicy": ("networking.k8s.io", "v1"),
    "Pod": ("", "v1"),
    "PodDisruptionBudget": ("policy", "v1"),
    "Service": ("", "v1"),
    "ServiceAccount": ("", "v1"),
    "StatefulSet": ("apps", "v1"),
}
NUMBER_OR_TEXT = {"type": ["string", "number", "null"]}

Schema = dict[str, Any]


def main() -> int:
    """Write a schema per kind; returns the exit status."""
    for folder in (SCHEMAS, CRDS):
        folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for kind, group, version, schema in (*_built_in(), *_custom()):
        group_part = f"-{group.split('.')[0]}" if group else ""
        (SCHEMAS / f"{kind.lower()}{group_part}-{version}.json").write_text(json.dumps(schema))
        count += 1
    print(f"{count} schemas in {SCHEMAS}")
    return 0


def _module(module: str) -> Path:
    """The folder of a Go module, downloaded where it is not there yet."""
    done = subprocess.run(["go", "mod", "download", "-json", module], cwd="/", capture_output=True, check=True)
    return Path(json.loads(done.stdout)["Dir"])


def _built_in() -> Iterator[tuple[str, str, str, Schema]]:
    swagger = json.loads((_module(KUBERNETES) / "api" / "openapi-spec" / "swagger.json").read_text())
    definitions = swagger["definitions"]
    for name, definition in definitions.items():
        for each in definition.get("x-kubernetes-group-version-kind", []):
            if BUILT_IN.get(each["kind"]) == (each["group"], each["version"]):
                needed = {part: _strict(definitions[part]) for part in _reachable(definitions, name)}
                needed = {n: NUMBER_OR_TEXT if n.endswith("resource.Quantity") else s for n, s in needed.items()}
                schema = {"$ref": f"#/definitions/{name}", "definitions": needed}
                yield each["kind"], each["group"], each["version"], schema


def _custom() -> Iterator[tuple[str, str, str, Schema]]:
    for module, name in CUSTOM:
        path = _module(module) / name
        (CRDS / path.name).write_text(path.read_text())
        for document in yaml.load_all(path.read_text(), _Loader):
            spec = document["spec"]
            for version in spec["versions"]:
                schema = _strict(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                yield spec["names"]["kind"], spec["group"], version["name"], schema


def _reachable(definitions: dict[str, Schema], name: str) -> set[str]:
    """The definitions that one refers to, itself included."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        part = waiting.pop()
        if part not in found:
            found.add(part)
            waiting += [ref.rsplit("/", 1)[1] for ref in _refs(definitions[part])]
    return found


def _refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from _refs(value)
    elif isinstance(node, list):
        for item in node:
            yield from _refs(item)


def _strict(node: Any) -> Any:
    """The same schema, in which unknown fields are errors and descriptions are left out."""
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") == "int-or-string" or node.get("x-kubernetes-int-or-string"):
        return NUMBER_OR_TEXT
    strict = {
        key: {n: _strict(s) for n, s in value.items()} if key == "properties" else _strict(value)
        for key, value in node.items()
        if key != "description" or isinstance(value, dict)
    }
    if "properties" in node and not node.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    return strict


class _Loader(yaml.SafeLoader):
    """YAML's safe subset; `=`, which stands for itself in some definitions, is text."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _loader, node: node.value)


if __name__ == "__main__":
    sys.exit(main())
