"""The chart's dashboards as Prometheus meets them: their queries, with variables filled in."""

import json
from collections.abc import Iterator
from typing import Any

from tests.observability.prometheus import ROOT

FILES = sorted((ROOT / "helm" / "tidecast" / "dashboards").glob("*.json"))
DASHBOARDS: dict[str, dict[str, Any]] = {file.stem: json.loads(file.read_text()) for file in FILES}


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every panel that shows something, with the name of its dashboard before its title."""
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                yield f"{name}: {panel['title']}", panel


def queries(rate_interval: str = "2m") -> Iterator[tuple[str, str]]:
    """Every query, with its panel's name and its letter, all namespaces, jobs and pods chosen."""
    for name, panel in panels():
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", rate_interval)
            for variable in ("namespace", "job", "pod"):
                text = text.replace(f'"${variable}"', '".*"')
            assert "$" not in text, f"{name}: a variable that nothing fills in: {text}"
            yield f"{name} {target['refId']}", text
