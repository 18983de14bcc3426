"""Write the Grafana dashboards of the chart from their short form: `python -m helm.dashboards`.

The YAML files here hold what differs from panel to panel: its title, the question it answers, its queries, unit and
thresholds. This module adds what Grafana wants of every panel. `%scope` in a query stands for the labels that the
dashboards' variables choose by.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CHART = HERE.parent / "tidecast" / "dashboards"
SCOPE = 'namespace=~"$namespace", job=~"$job", pod=~"$pod"'
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION = 39  # Grafana 10.4; later ones migrate it when they load it
COLUMNS = 24  # of Grafana's grid
HEIGHTS = {"row": 1, "stat": 7, "timeseries": 7, "table": 7}
Json = dict[str, Any]


def dashboard(source: Mapping[str, Any]) -> Json:
    """A dashboard as Grafana reads it."""
    return {
        "uid": source["uid"],
        "title": source["title"],
        "description": source["description"],
        "tags": ["tidecast"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one crosshair over all panels
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [_links()],
        "templating": {"list": [_datasource(), *_variables()]},
        "panels": list(_panels(source["rows"])),
    }


def _links() -> Json:
    """To the other dashboards of the tag, with the same variables and times."""
    return {
        "type": "dashboards",
        "title": "Tidecast",
        "tags": ["tidecast"],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
    }


def _datasource() -> Json:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}


def _variables() -> Iterator[Json]:
    """Namespace, job and pod, each among those of the chosen ones before it; all of them at first."""
    chosen: list[str] = []
    for name in ("namespace", "job", "pod"):
        values = f"label_values(streamer_build_info{{{', '.join(chosen)}}}, {name})"
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": DATASOURCE,
            "definition": values,
            "query": {"query": values, "refId": name},
            "refresh": 2,  # whenever the time range changes
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",  # also what lacks the label, outside Kubernetes
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }
        chosen.append(f'{name}=~"${name}"')


def _panels(rows: list[Mapping[str, Any]]) -> Iterator[Json]:
    """Rows and their panels from left to right, wrapped at the grid's width."""
    number, top = 1, 0
    for row in rows:
        yield {
            "id": number,
            "type": "row",
            "title": row["title"],
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": HEIGHTS["row"]},
            "panels": [],
        }
        number, top, left, height = number + 1, top + HEIGHTS["row"], 0, 0
        for source in row["panels"]:
            panel = _panel(source) | {"id": number}
            width, tall = source["width"], HEIGHTS[panel["type"]]
            if left + width > COLUMNS:
                top, left, height = top + height, 0, 0
            yield panel | {"gridPos": {"x": left, "y": top, "w": width, "h": tall}}
            number, left, height = number + 1, left + width, max(height, tall)
        top += height


def _panel(source: Mapping[str, Any]) -> Json:
    kind = source.get("type", "timeseries")
    return {
        "type": kind,
        "title": source["title"],
        "description": source["description"],
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": _field(source, kind), "overrides": []},
        "options": OPTIONS[kind],
        "targets": [_target(query, "ABCDEFGH"[i], kind) for i, query in enumerate(source["queries"])],
        **({"transformations": TABLE} if kind == "table" else {}),
    }


def _field(source: Mapping[str, Any], kind: str) -> Json:
    colors = source.get("colors") or {"base": "green", **source.get("thresholds", {})}
    steps = [{"color": color, "value": None if value == "base" else value} for value, color in colors.items()]
    field: Json = {"unit": source["unit"], "thresholds": {"mode": "absolute", "steps": steps}}
    field |= {side: source[side] for side in ("min", "max") if side in source}
    if kind == "stat":
        field["color"] = {"mode": "thresholds"}
    if kind == "timeseries":
        field["color"] = {"mode": "palette-classic"}
        field["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if source.get("stack") else 5,
            "showPoints": "auto",
            "spanNulls": False,
            "stacking": {"mode": "normal" if source.get("stack") else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if len(steps) > 1 else "off"},
        }
    return field


def _target(query: Mapping[str, str], name: str, kind: str) -> Json:
    now = kind in ("table", "stat")  # over a range, a stat would show the last value of processes that are long gone
    target: Json = {
        "refId": name,
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query["expr"].replace("%scope", SCOPE),
        "legendFormat": query.get("legend", ""),
        "instant": now,
        "range": not now,
    }
    return target | ({"format": "table"} if kind == "table" else {})


OPTIONS: Mapping[str, Json] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    "table": {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}},
}
TABLE = [{"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": {"Value": "processes"}}}]


def written() -> Iterator[tuple[Path, str]]:
    """Where each dashboard belongs, and what should be there."""
    for source in sorted(HERE.glob("*.yaml")):
        made = dashboard(yaml.safe_load(source.read_text()))
        yield CHART / f"{source.stem}.json", json.dumps(made, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path, text in written():
        path.write_text(text)
