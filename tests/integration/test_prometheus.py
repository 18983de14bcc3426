"""Every query of the dashboards, and every alert, on a real Prometheus that scrapes real daemons under load."""

import json
import math
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from tests import models
from tests.chaos.workload import Workload
from tests.integration.broker import free_ports
from tests.integration.daemon import Streamer
from tests.integration.records import create_topic, produce
from tests.integration.waiting import eventually
from tests.observability.grafana import queries
from tests.observability.prometheus import ALERTS, program

SCRAPE = "1s"
RATE_INTERVAL = "15s"
PARTITIONS = 4


@contextmanager
def prometheus(folder: Path, targets: dict[str, int]) -> Iterator[str]:
    """A Prometheus that scrapes these pods' ports; the address of its API."""
    (port,) = free_ports(1)
    pods = [{"targets": [f"127.0.0.1:{p}"], "labels": {"namespace": "shop", "pod": pod}} for pod, p in targets.items()]
    configuration = {
        "global": {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [{"job_name": "tidecast", "static_configs": pods}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with subprocess.Popen(command) as process:
        try:
            yield f"http://127.0.0.1:{port}/api/v1"
        finally:
            process.kill()


def ask(api: str, path: str, **parameters: str):
    with urlopen(f"{api}/{path}?{urlencode(parameters)}", timeout=30) as answer:
        return json.load(answer)["data"]


def up(api: str) -> bool:
    try:
        return len(ask(api, "query", query='up{job="tidecast"} == 1')["result"]) == 2
    except OSError:
        return False


def has_data(api: str, query: str) -> bool:
    """Whether a query gives at least one number."""
    return any(not math.isnan(float(sample["value"][1])) for sample in ask(api, "query", query=query)["result"])


@pytest.fixture
def settings(bootstrap, tmp_path):
    return {
        "model.path": str(models.save(models.echo(horizon=2), tmp_path / "echo.onnx")),
        "kafka.bootstrap_servers": bootstrap,
        "kafka.group_id": f"group-{uuid.uuid4().hex[:8]}",
        "input.topics": [create_topic(bootstrap, "events", PARTITIONS)],
        "output.topic": create_topic(bootstrap, "forecasts", PARTITIONS),
        "output.dead_letter_topic": create_topic(bootstrap, "rejected", PARTITIONS),
    }


@contextmanager
def load(settings) -> Iterator[None]:
    """Events as fast as they can be sent in batches of 500, until the end."""
    records = Workload(events=200_000, streams=200, partitions=PARTITIONS).records()
    end = threading.Event()

    def send() -> None:
        for at in range(0, len(records), 500):
            produce(settings["kafka.bootstrap_servers"], settings["input.topics"][0], records[at : at + 500])
            if end.is_set():
                return

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def test_every_dashboard_query_gives_data_and_no_alert_fires_under_load(settings, tmp_path):
    program("prometheus")
    daemons = {f"tidecast-{i}": Streamer(tmp_path, settings, f"tidecast-{i}") for i in range(2)}
    try:
        for daemon in daemons.values():
            daemon.await_ready()
        asked = list(queries(RATE_INTERVAL))
        with load(settings), prometheus(tmp_path, {pod: daemon.port for pod, daemon in daemons.items()}) as api:
            eventually(lambda: up(api), "both daemons are scraped")
            without = [name for name, _ in asked]

            def complete() -> bool:
                without[:] = [name for name, query in asked if not has_data(api, query)]
                return not without

            try:
                eventually(complete, "every query gives data", 180)
            finally:
                print(f"\n{len(asked)} dashboard queries, {len(asked) - len(without)} gave data; without: {without}")
            rules = ask(api, "rules")["groups"][0]["rules"]
            assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []
            assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
            print(f"{len(rules)} alert rules evaluated, none fires")
    finally:
        for daemon in daemons.values():
            daemon.kill()
