"""Every object of every shape is one that the API server's own definitions allow, custom ones included."""

import json

import pytest

from tests.helm.chart import CHART, SCHEMAS, run, template

NEEDS = ("helm", "kubeconform")
SHAPES = sorted(path.name for path in (CHART / "ci").glob("*-values.yaml"))
LOCATION = str(SCHEMAS / "{{.ResourceKind}}{{.KindSuffix}}.json")


@pytest.fixture(autouse=True)
def _schemas() -> None:
    if not list(SCHEMAS.glob("*.json")):
        pytest.skip("no schemas of Kubernetes' objects; `make tools` makes them where there is Go")


def problems(manifest: str) -> list[dict[str, str]]:
    """What kubeconform finds wrong, object by object."""
    done = run("kubeconform", "-strict", "-output", "json", "-schema-location", LOCATION, "-", text=manifest)
    return [r for r in json.loads(done.stdout)["resources"] if r["status"] != "statusValid"]


@pytest.mark.parametrize("shape", SHAPES)
def test_objects_are_valid(shape):
    manifest = template("-f", str(CHART / "ci" / shape)).stdout
    assert "kind: StatefulSet" in manifest
    assert problems(manifest) == []


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ("enableServiceLinks: false", "enableServiceLink: false"),
        ("maxReplicaCount: 12", "maxReplicas: 12"),
        ("path: /metrics", "paths: /metrics"),
        ("minReplicaCount: 2", "minReplicaCount: two"),
    ],
)
def test_a_field_that_does_not_exist_is_noticed(found, wrong):
    manifest = template("-f", str(CHART / "ci" / "secure-values.yaml")).stdout
    assert found in manifest
    assert len(problems(manifest.replace(found, wrong, 1))) == 1
