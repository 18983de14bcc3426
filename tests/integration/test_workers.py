"""Several workers on one machine, one of which dies: together they publish what one uninterrupted process would."""

import os
import re
import signal
import socket
import uuid

import pytest

from tests import models
from tests.chaos.oracle import expected_forecasts, judge
from tests.chaos.scene import QUICK_GROUP
from tests.chaos.workload import STEP_MS, Workload, feed
from tests.integration.broker import free_ports
from tests.integration.daemon import Streamer
from tests.integration.records import committed_offsets, create_topic, read_committed
from tests.integration.waiting import eventually

WORKERS = 3
STARTED = re.compile(r"event=worker_started number=(\d+) pid=(\d+)")


def adjoining_ports(count):
    """The first of so many ports in a row that nothing on loopback listens to."""

    def is_free(port):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True

    return next(p for _ in range(1000) for p in free_ports(1) if all(is_free(p + n) for n in range(1, count)))


@pytest.mark.parametrize(("client", "instance"), [("kafka-python", ""), ("kafka-python", "big"), ("confluent", "big")])
def test_workers_of_which_one_is_killed_publish_what_one_process_would(bootstrap, tmp_path, client, instance):
    workload = Workload(events=20_000, streams=500)
    path = models.save(models.gru(step_ms=STEP_MS, horizon=4), tmp_path / "model.onnx")
    group, port = f"group-{uuid.uuid4().hex[:8]}", adjoining_ports(WORKERS)
    events, forecasts = (create_topic(bootstrap, name, workload.partitions) for name in ("events", "forecasts"))
    settings = {
        "model.path": str(path),
        "kafka.client": client,
        "kafka.bootstrap_servers": bootstrap,
        "kafka.group_id": group,
        "kafka.group_instance_id": instance,
        "kafka.options": QUICK_GROUP[client],
        "input.topics": [events],
        "output.topic": forecasts,
        "http.port": port,
    }
    records = workload.records()
    streamer = Streamer(tmp_path, settings, arguments=["--workers", str(WORKERS)])
    try:
        for number in range(WORKERS):
            eventually(lambda number=number: streamer.get("/readyz", port + number), f"worker {number} is ready", 120)
        feed(bootstrap, events, records[:10_000])
        eventually(lambda: sum(committed_offsets(bootstrap, group, events).values()) > 2_000, "some are done", 120)
        pids = {int(number): int(pid) for number, pid in STARTED.findall(streamer.log)}
        os.kill(pids[1], signal.SIGKILL)
        feed(bootstrap, events, records[10_000:])
        eventually(lambda: sum(committed_offsets(bootstrap, group, events).values()) == len(records), "all done", 240)
        shares = [metric(streamer.get("/metrics", port + n), "streamer_records_consumed_total") for n in (0, 2)]
        eventually(lambda: streamer.get("/readyz", port + 1), "the killed worker's successor is ready", 120)
        assert streamer.stop() == 0
    finally:
        streamer.kill()
    expected = expected_forecasts(read_committed(bootstrap, events), path)
    verdict = judge(read_committed(bootstrap, forecasts), expected)
    assert verdict.is_clean, verdict
    assert verdict.expected > 19_000
    assert all(shares), "each had a share of the work"
    assert len(STARTED.findall(streamer.log)) == WORKERS + 1
    assert len(re.findall(r"level=info worker=\d event=stopped", streamer.log)) == WORKERS


def metric(page, name):
    return next(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name + " "))
