"""The chart's made files are up to date, and every value is described and checked."""

import json

import yaml

from streamer import __version__
from tests.helm.chart import CHART, readme_text, schema_text, undescribed


def test_the_schema_has_the_settings_of_today():
    assert (CHART / "values.schema.json").read_text() == schema_text(), "run `make docs`"


def test_the_readme_is_made_from_the_values():
    assert (CHART / "README.md").read_text() == readme_text(), "run `make docs`"


def test_every_value_is_described():
    assert undescribed() == []


def test_the_schema_names_every_value_and_refuses_others_at_every_level():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["properties"].keys() == values.keys() | {"global"}
    assert list(_open_objects(schema)) == []


def _open_objects(node, path=""):
    """Paths of objects with named properties that accept others."""
    if "properties" in node and node.get("additionalProperties") is not False:
        yield path
    for name, inner in [*node.get("properties", {}).items(), *node.get("$defs", {}).items()]:
        yield from _open_objects(inner, f"{path}.{name}")


def test_the_chart_is_of_the_programs_version():
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__
