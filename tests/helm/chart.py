"""The chart, the tools that check it, and the files in it that are made rather than written."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from streamer.settings import Settings

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "helm" / "tidecast"
TOOLS = REPOSITORY / ".tools"
SCHEMAS = TOOLS / "schemas"
CRDS = TOOLS / "crds"
RELEASE, NAMESPACE = "forecasts", "weather"
ASSUMED = ("--kube-version", "1.34.4")  # a helm made by `go install` takes a very old one for granted

INTRODUCTION = """\
# Tidecast's chart

Made from `values.yaml` by `make docs`. The repository's README walks through an installation; `ci/` holds the values of
each shape that is tested. A value that is not listed here is refused.

| Value | Default | Meaning |
|---|---|---|
"""


def tool(name: str) -> str | None:
    """Where a program is: installed by `make tools`, or found in the PATH; None if it is not."""
    return shutil.which(name, path=f"{TOOLS / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")


def run(program: str, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a tool to its end."""
    return subprocess.run([str(tool(program)), *arguments], input=text, capture_output=True, text=True, check=False)


def template(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`helm template` of the chart."""
    return run("helm", "template", RELEASE, str(CHART), "--namespace", NAMESPACE, *ASSUMED, *arguments)


# values.schema.json: all but `config` is written by hand; that is the daemon's settings


def schema_text() -> str:
    """What values.schema.json should hold: itself, with the settings as they are today."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    settings = Settings.model_json_schema(ref_template="#/$defs/{model}")
    schema["$defs"] = settings.pop("$defs")
    settings["required"] = ["http", "input", "kafka"]  # the templates look into them: null would be an error of theirs
    schema["properties"]["config"] = settings
    return json.dumps(_bare(schema), indent=2, ensure_ascii=False) + "\n"


def _bare(node: Any) -> Any:
    """Without titles, which only repeat names, and defaults, which the daemon knows."""
    if isinstance(node, list):
        return [_bare(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if key not in ("title", "default")}
    if kept.get("type") == "number":  # `--set` makes text of a fraction, which the daemon reads all the same
        kept |= {"type": ["number", "string"], "pattern": r"^-?[0-9.]+([eE][-+]?[0-9]+)?$"}
    named = ("properties", "$defs")  # whose keys are names, not the schema's own words
    return {k: {n: _bare(s) for n, s in v.items()} if k in named else _bare(v) for k, v in kept.items()}


# README.md: a row per value, from the comments that begin with `# --`


def readme_text() -> str:
    """What the chart's README should hold."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    return INTRODUCTION + "".join(_rows(yaml.compose("\n".join(lines)), lines, ""))


def undescribed() -> list[str]:
    """Values that no comment describes, their own or one above."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    return list(_undescribed(yaml.compose("\n".join(lines)), lines, ""))


def _rows(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[str]:
    for key, value in node.value:
        name = prefix + key.value
        if comment := _comment(lines, key.start_mark.line):
            yield f"| `{name}` | {_default(value)} | {comment} |\n"
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from _rows(value, lines, name + ".")


def _undescribed(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[str]:
    for key, value in node.value:
        if _comment(lines, key.start_mark.line):
            continue
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from _undescribed(value, lines, f"{prefix}{key.value}.")
        else:
            yield prefix + key.value


def _default(value: yaml.Node) -> str:
    found = yaml.safe_load(yaml.serialize(value))
    return f"`{json.dumps(found)}`" if found not in ("", {}, []) and len(json.dumps(found)) < 90 else ""


def _comment(lines: list[str], at: int) -> str:
    """The comment right above a line, from its `# --` on; empty if there is none."""
    found: list[str] = []
    for line in reversed(lines[:at]):
        match = re.match(r"\s*#\s?(-- )?(.*)", line)
        if not match:
            return ""
        found.insert(0, match[2])
        if match[1]:
            return " ".join(found).replace("|", "\\|")
    return ""


def main() -> None:
    """Write the made files again."""
    (CHART / "values.schema.json").write_text(schema_text())
    (CHART / "README.md").write_text(readme_text())


if __name__ == "__main__":
    sys.exit(main())
