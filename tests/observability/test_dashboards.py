"""The dashboards: made from their short form, whole, and asking for metrics that exist."""

import json
import re
from itertools import combinations

import pytest

from helm.dashboards.__main__ import written
from tests.observability.grafana import DASHBOARDS, FILES, panels, queries
from tests.observability.prometheus import ROOT, promtool

UNITS = {"short", "none", "s", "percentunit", "cps", "bytes", "Bps"}  # of Grafana's list
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|(.*?)\|", re.MULTILINE)
DOCUMENTED = {
    name: (kind, set(re.findall(r"`(\w+)`", labels)))
    for name, kind, labels in ROW.findall((ROOT / "docs" / "metrics.md").read_text())
}
TARGET_LABELS = {"namespace", "job", "pod", "instance"}  # which Prometheus adds
METRIC = re.compile(r"\b((?:streamer|process)_\w+)\{([^}]*)\}")


def test_the_files_are_those_that_their_short_form_makes():
    assert [(path, path.read_text() == text) for path, text in written()] == [(path, True) for path in FILES]


def test_there_are_four_dashboards_each_with_an_address_of_its_own():
    assert {name: board["uid"] for name, board in DASHBOARDS.items()} == {
        name: f"tidecast-{name}" for name in ("model", "overview", "performance", "state")
    }


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_chosen_by_datasource_namespace_job_and_pod(name):
    variables = DASHBOARDS[name]["templating"]["list"]
    assert [(v["name"], v["type"]) for v in variables] == [
        ("datasource", "datasource"),
        ("namespace", "query"),
        ("job", "query"),
        ("pod", "query"),
    ]
    assert "uid" not in json.dumps(DASHBOARDS[name]).replace('"uid": "${datasource}"', "").replace(
        f'"uid": "tidecast-{name}"', ""
    )


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_numbers_of_their_own_and_do_not_overlap(name):
    found = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    places = [panel["gridPos"] for panel in found]
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= 24 for p in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]


@pytest.mark.parametrize(("name", "panel"), list(panels()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_panel_says_what_it_is_for_in_which_unit_from_which_datasource(name, panel):
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["description"].endswith((".", "?"))
    assert defaults["unit"] in UNITS
    assert defaults["thresholds"]["steps"][0]["value"] is None  # the base that Grafana needs
    values = [step["value"] for step in defaults["thresholds"]["steps"][1:]]
    assert values == sorted(values)
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])
    assert all(
        t["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for t in panel["targets"]
    )
    if panel["type"] == "timeseries":
        assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize(("name", "panel"), list(panels()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_single_number_is_that_of_now_and_not_the_last_of_processes_that_are_gone(name, panel):
    single = panel["type"] in ("stat", "table")
    assert all((target["instant"], target["range"]) == (single, not single) for target in panel["targets"])
    if panel["title"] in ("Processes", "Partitions served"):  # none is a number, too, and red
        assert panel["targets"][0]["expr"].endswith(" or vector(0)")


@pytest.mark.parametrize(("name", "query"), list(queries()), ids=lambda value: value[:60])
def test_a_query_names_metrics_and_labels_that_exist(name, query):
    found = METRIC.findall(query)
    assert found
    assert len(found) == len(re.findall(r"\b(?:streamer|process)_\w+", query)), "a metric without its selector"
    for metric, selector in found:
        family, _, part = re.match(r"(\w+?)(_(bucket|sum|count))?$", metric).groups()
        kind, labels = DOCUMENTED[metric] if metric in DOCUMENTED else DOCUMENTED[family]
        assert (kind == "histogram") == bool(part)
        assert set(re.findall(r"(\w+)[=!]", selector)) <= labels | TARGET_LABELS
        assert {"namespace", "job", "pod"} <= set(re.findall(r"(\w+)[=!]", selector)), "not chosen by the variables"


@pytest.mark.parametrize(("name", "query"), list(queries()), ids=lambda value: value[:60])
def test_rates_are_of_counters_over_the_interval_and_quantiles_keep_the_bounds(name, query):
    for function, metric in re.findall(r"(\w+)\((\w+)\{[^}]*\}\[\w+\]\)", query):
        assert function in ("rate", "increase", "changes", "last_over_time")
        assert metric.endswith(("_total", "_sum", "_count", "_bucket")) or function in ("changes", "last_over_time")
    assert len(re.findall(r"\[\w+\]", query)) == len(
        re.findall(r"(?:rate|increase|changes|last_over_time)\(\w+\{[^}]*\}\[\w+\]", query)
    )
    if "_bucket" in query:
        assert re.match(r"histogram_quantile\(0\.\d+, sum by \((pod, instance, )?le\) ", query)


def test_prometheus_can_read_every_query(tmp_path):
    rules = [{"record": f"query:{i}", "expr": text} for i, (_, text) in enumerate(queries())]
    file = tmp_path / "queries.yaml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(file))
