"""The chart on a real cluster, with a real broker outside it: python -m tests.kubernetes --image IMAGE

Needs KUBECONFIG, an image that the cluster's nodes have or can pull, and an address of this machine that pods reach.
Installs, feeds events without a pause, and meanwhile tests, upgrades to another model, scales, restarts, kills and
drains; in the end every event must have its one forecast. Prints a line per step, and exits with 1 if one fails.
"""

import argparse
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from tests import models
from tests.chaos.workload import STEP_MS, Workload
from tests.integration.broker import Cluster
from tests.integration.launcher import find_launcher
from tests.integration.records import committed_offsets, read_committed
from tests.integration.waiting import eventually
from tests.kubernetes.cluster import POLL_SECONDS, RELEASE, WAIT_SECONDS, Namespace, accepted_shapes, command, namespace
from tests.kubernetes.load import Feeder
from tests.kubernetes.verdict import Phase, gaps_seconds, judge_change, summary

PARTITIONS = 6
EVENTS_PER_SECOND = 120
LONGEST_SECONDS = 1_500  # events for so long; a run takes less than half of it on a quiet machine
SETTLE_RECORDS = 600  # forecast between two disturbances


def main() -> int:
    """Run every step; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.kubernetes")
    parser.add_argument("--image", required=True, help="the daemon's image, repository:tag")
    parser.add_argument("--host", help="this machine's address as pods reach it; default: the one that reaches the API")
    parser.add_argument("--client", help="kafka.client; default: the chart's")
    parser.add_argument("--dynamic", action="store_true", help="without static membership")
    options = parser.parse_args()
    if not os.environ.get("KUBECONFIG") or ":" not in options.image:
        parser.error("expected KUBECONFIG=FILE in the environment, and IMAGE=repository:tag")
    broker = Cluster(find_launcher())
    try:
        broker.brokers[0].host = options.host or address_towards_the_api()
        broker.start()
        with tempfile.TemporaryDirectory() as folder, namespace() as space:
            return Trial(space, broker.bootstrap, Path(folder), options).run()
    finally:
        broker.close()


def address_towards_the_api() -> str:
    """This machine's address on the way to the API server."""
    server = urlsplit(command("kubectl", "config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((server.hostname, server.port or 443))  # sends nothing
        return str(probe.getsockname()[0])


class Trial:
    """One release under a steady load, and what is done to it."""

    def __init__(self, space: Namespace, bootstrap: str, folder: Path, options: argparse.Namespace) -> None:
        self.space = space
        self.bootstrap = bootstrap
        self.folder = folder
        self.values = folder / "values.yaml"
        self.values.write_text(yaml.safe_dump(_values(bootstrap, options)))
        self.models = [folder / "1.onnx", folder / "2.onnx"]
        for number, path in enumerate(self.models, start=1):
            model = models.gru(seed=number, step_ms=STEP_MS, horizon=4)
            models.save(models.with_manifest(model, version=str(number)), path)
        workload = Workload(EVENTS_PER_SECOND * LONGEST_SECONDS, streams=500, partitions=PARTITIONS)
        self.feeder = Feeder(bootstrap, "events", workload.records(), EVENTS_PER_SECOND)
        self.phases: list[Phase] = []

    def run(self) -> int:
        """Every step in turn; returns the exit status."""
        say(f"the API server accepts {', '.join(accepted_shapes(self.space))}")
        self.install()
        self.feeder.start()
        try:
            self.settle()
            self.disturb()
        finally:
            fed = self.feeder.stop()
        eventually(lambda: self.done() == fed, f"{fed} events committed", WAIT_SECONDS, POLL_SECONDS)
        return self.judge(fed)

    def install(self) -> None:
        for number, path in enumerate(self.models, start=1):
            self.space.kubectl("create", "configmap", f"model-{number}", f"--from-file=model.onnx={path}")
        with self.phase("install, topics made, ready"):
            self.space.install(self.values)
            self.space.await_assigned(PARTITIONS)
        self.phases.clear()  # nothing was forecast yet

    def disturb(self) -> None:
        """What happens to a deployment in a year, in minutes."""
        space = self.space
        with self.phase("helm test"):
            said = space.helm("test", RELEASE, "--logs", "--timeout", "5m")
        say(f"    {len(re.findall('^ok', said, re.MULTILINE))} checks of the doctor's ok, metrics served")
        with self.phase("upgrade to another model"):
            space.install(self.values, "model.configMap.name=model-2")
            space.await_assigned(PARTITIONS)
        with self.phase("scale 1 to 3"):
            space.scale(3)
            space.await_assigned(PARTITIONS)
        with self.phase("rolling restart of 3"):
            space.kubectl("rollout", "restart", f"statefulset/{RELEASE}")
            space.kubectl("rollout", "status", f"statefulset/{RELEASE}", "--timeout=600s")
            space.await_assigned(PARTITIONS)
        with self.phase("kubectl delete pod --force"):
            before = space.uid(f"{RELEASE}-1")
            space.kubectl("delete", "pod", f"{RELEASE}-1", "--force", "--grace-period=0")
            eventually(lambda: space.uid(f"{RELEASE}-1") not in ("", before), "a new pod", WAIT_SECONDS, POLL_SECONDS)
            space.await_pods(3)
            space.await_assigned(PARTITIONS)
        with self.phase("drain and uncordon"):
            say(f"    drain: {space.drain()}")
            space.await_pods(3)
            space.await_assigned(PARTITIONS)
        with self.phase("scale 3 to 1"):
            space.scale(1)
            space.await_assigned(PARTITIONS)
        say(f"containers restarted by themselves: {space.restarts()}")

    def judge(self, fed: int) -> int:
        """Print the gaps and the verdict; returns the exit status."""
        forecasts = read_committed(self.bootstrap, "forecasts")
        for phase in self.phases:
            say(f"{phase.name}: {summary(gaps_seconds(forecasts, phase))}")
        verdict = judge_change(self.bootstrap, "events", "forecasts", self.models)
        say(f"{fed} events: {verdict}")
        say("exactly once" if verdict.is_clean else "NOT exactly once")
        return 0 if verdict.is_clean else 1

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a step, and let forecasts flow again after it."""
        begun, begin_ms = time.monotonic(), round(time.time() * 1000)
        yield
        say(f"{name}: {time.monotonic() - begun:.1f} s")
        if self.feeder.fed:
            self.settle()
        self.phases.append(Phase(name, begin_ms, round(time.time() * 1000)))

    def settle(self) -> None:
        """Until every event of now, and some more, has its forecast."""
        wanted = self.feeder.fed + SETTLE_RECORDS
        eventually(lambda: self.done() >= wanted, f"{wanted} events committed", WAIT_SECONDS, POLL_SECONDS)

    def done(self) -> int:
        """Events that are committed."""
        return sum(committed_offsets(self.bootstrap, RELEASE, "events").values())


def _values(bootstrap: str, options: argparse.Namespace) -> dict[str, object]:
    repository, tag = options.image.rsplit(":", 1)
    kafka = {"bootstrap_servers": bootstrap} | ({"client": options.client} if options.client else {})
    return {
        "image": {"repository": repository, "tag": tag},
        "config": {
            "kafka": kafka,
            "input": {"topics": ["events"]},
            "output": {"dead_letter_topic": "rejected"},
            "state": {"max_streams": 10_000, "snapshot_interval_seconds": 1},
        },
        "model": {"source": "configMap", "configMap": {"name": "model-1"}},
        "topics": {"create": True, "partitions": PARTITIONS},
        "staticMembership": not options.dynamic,
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},  # a small test node
    }


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
