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
from kafka import KafkaProducer, TopicPartition

from tests import models
from tests.chaos.workload import Workload
from tests.integration.broker import free_ports
from tests.integration.daemon import Streamer
from tests.integration.records import create_topic, end_offsets, produce
from tests.integration.waiting import eventually
from tests.observability.grafana import queries
from tests.observability.prometheus import ALERTS, program

SCRAPE = "1s"
RATE_INTERVAL = "15s"
PARTITIONS = 4
CLIENTS = ("kafka-python", "confluent")
TAIL = uuid.uuid4().hex[:8]  # of the groups' names


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


def value(api: str, query: str) -> float | None:
    """The one number that a query gives, if it gives one."""
    found = ask(api, "query", query=query)["result"]
    return float(found[0]["value"][1]) if found else None


@pytest.fixture
def settings(bootstrap, tmp_path):
    return {
        "model.path": str(models.save(models.echo(horizon=2), tmp_path / "echo.onnx")),
        "kafka.bootstrap_servers": bootstrap,
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


def in_a_transaction(bootstrap: str, topic: str) -> None:
    """Append a record to each partition, and the transaction's marker after it, which no reader ever gets."""
    with KafkaProducer(bootstrap_servers=bootstrap, transactional_id=uuid.uuid4().hex) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        for partition in range(PARTITIONS):
            producer.send(topic, b"no event", partition=partition)
        producer.commit_transaction()


def test_every_dashboard_query_gives_data_and_no_alert_fires_under_load(settings, tmp_path):
    """One daemon with each Kafka client, each a group of its own."""
    program("prometheus")
    groups = {client: settings | {"kafka.client": client, "kafka.group_id": client + TAIL} for client in CLIENTS}
    daemons = {f"pod-{client}": Streamer(tmp_path, groups[client], client) for client in CLIENTS}
    try:
        for daemon in daemons.values():
            daemon.await_ready()
        asked = list(queries(RATE_INTERVAL))
        with prometheus(tmp_path, {pod: daemon.port for pod, daemon in daemons.items()}) as api:
            with load(settings):
                eventually(lambda: up(api), "both daemons are scraped")
                without = [name for name, _ in asked]

                def complete() -> bool:
                    without[:] = [name for name, query in asked if not has_data(api, query)]
                    return not without

                try:
                    eventually(complete, "every query gives data", 300)
                finally:
                    print(
                        f"\n{len(asked)} dashboard queries, {len(asked) - len(without)} gave data; without: {without}"
                    )
                rules = ask(api, "rules")["groups"][0]["rules"]
                assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []
                assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
                print(f"{len(rules)} alert rules evaluated, none fires")
            bootstrap, topic = settings["kafka.bootstrap_servers"], settings["input.topics"][0]
            in_a_transaction(bootstrap, topic)
            ends = end_offsets(bootstrap, [TopicPartition(topic, number) for number in range(PARTITIONS)])
            read = len(daemons) * (sum(ends.values()) - PARTITIONS)  # all but the markers, by both

            def is_idle() -> bool:
                lags = value(api, "count(streamer_consumer_lag_records == 0)")
                return value(api, "sum(streamer_records_consumed_total)") == read and lags == len(daemons) * PARTITIONS

            eventually(is_idle, "an input that is read to its end has no lag", 300)
            assert value(api, "sum(streamer_consumer_lag_seconds)") == 0
    finally:
        for daemon in daemons.values():
            daemon.kill()
