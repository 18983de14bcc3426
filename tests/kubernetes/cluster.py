"""A Kubernetes cluster seen through kubectl and helm, and one release of the chart in a namespace of its own."""

import json
import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helm.chart import ASSUMED, CHART, CRDS, tool
from tests.integration.waiting import eventually

RELEASE = "tidecast"
WAIT_SECONDS = 600
POLL_SECONDS = 1.0  # each look runs kubectl, which takes a tenth of a second of CPU
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"  # pods that do not meet it are refused


class CommandError(Exception):
    """A command that failed; the message has all it said."""


def command(program: str, *arguments: str, text: str = "") -> str:
    """What a program prints; CommandError where it fails."""
    done = subprocess.run([str(tool(program)), *arguments], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"{program} {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Namespace:
    """A namespace that admits restricted pods only; gone, with all that is in it, when the block ends."""

    def __init__(self) -> None:
        self.name = f"tidecast-{uuid.uuid4().hex[:6]}"

    def kubectl(self, *arguments: str, text: str = "") -> str:
        return command("kubectl", "--namespace", self.name, *arguments, text=text)

    def helm(self, *arguments: str) -> str:
        return command("helm", "--namespace", self.name, *arguments)

    def get(self, *arguments: str) -> Any:
        """Objects as kubectl shows them in JSON."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def install(self, values: Path, *sets: str) -> None:
        """Install or upgrade, and wait until every pod is ready."""
        options = [part for s in sets for part in ("--set", s)]
        self.helm(
            "upgrade", "--install", RELEASE, str(CHART), "-f", str(values), *options, "--wait", "--timeout", "10m"
        )

    def scale(self, replicas: int) -> None:
        self.kubectl("scale", f"statefulset/{RELEASE}", f"--replicas={replicas}")
        self.await_pods(replicas)

    def await_pods(self, count: int) -> None:
        """Until there are exactly so many pods, all ready and none on its way out."""
        eventually(lambda: self.ready() == self.pods() == count, f"{count} pods ready", WAIT_SECONDS, POLL_SECONDS)

    def pods(self) -> int:
        return len(self._pods())

    def ready(self) -> int:
        return sum(_is_ready(pod) for pod in self._pods())

    def uid(self, pod: str) -> str:
        """The identity of a pod, which a new one of the same name does not have; empty if there is none."""
        return next((p["metadata"]["uid"] for p in self._pods() if p["metadata"]["name"] == pod), "")

    def restarts(self) -> int:
        """How often containers of the present pods have ended by themselves."""
        return sum(s["restartCount"] for p in self._pods() for s in p["status"].get("containerStatuses", []))

    def metric(self, name: str) -> float:
        """A metric without labels, summed over the pods that answer."""
        total = 0.0
        for pod in self._pods():
            path = f"/api/v1/namespaces/{self.name}/pods/{pod['metadata']['name']}:9108/proxy/metrics"
            try:
                page = command("kubectl", "get", "--raw", path)
            except CommandError:
                continue
            total += sum(float(value) for value in re.findall(rf"^{name} (\S+)$", page, re.MULTILINE))
        return total

    def await_assigned(self, partitions: int) -> None:
        """Until every partition is served by one of the pods."""
        eventually(
            lambda: self.metric("streamer_assigned_partitions") == partitions and self.ready() == self.pods(),
            f"{partitions} partitions assigned",
            WAIT_SECONDS,
            POLL_SECONDS,
        )

    def drain(self, limit_seconds: int = 60) -> str:
        """Drain the first pod's node of our pods, for so long at most, and let it be used again; how that ended."""
        node = self.get("pod", f"{RELEASE}-0")["spec"]["nodeName"]
        selector = f"app.kubernetes.io/instance={RELEASE}"
        before = {p["metadata"]["uid"] for p in self._pods()}
        try:
            options = ["--delete-emptydir-data", "--ignore-daemonsets", "--pod-selector", selector]
            command("kubectl", "drain", node, *options, f"--timeout={limit_seconds}s")
            ended = "complete"
        except CommandError as problem:
            if not re.search("global timeout reached|did not complete within", str(problem)):
                raise
            ended = "stopped at its limit by the disruption budget"
        finally:
            command("kubectl", "uncordon", node)
        gone = len(before - {p["metadata"]["uid"] for p in self._pods()})
        return f"{ended}, {gone} of {len(before)} pods evicted"

    def _pods(self) -> list[Any]:
        selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=streamer"
        return list(self.get("pods", "--selector", selector)["items"])


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A new namespace, with what the chart's custom kinds need in the cluster."""
    made = Namespace()
    command("kubectl", "apply", "--server-side", "-f", str(CRDS))
    command("kubectl", "create", "namespace", made.name)
    try:
        command("kubectl", "label", "namespace", made.name, RESTRICTED)
        yield made
    finally:
        command("kubectl", "delete", "namespace", made.name, "--timeout=300s")


def accepted_shapes(space: Namespace) -> list[str]:
    """The chart's shapes whose every object the API server accepts, which is asked without changing anything."""
    found = []
    for path in sorted((CHART / "ci").glob("*-values.yaml")):
        release = ("template", RELEASE, str(CHART), "--namespace", space.name, *ASSUMED)
        manifest = command("helm", *release, "-f", str(path))
        said = command("kubectl", "apply", "--dry-run=server", "-f", "-", text=manifest)
        found.append(f"{path.stem.removesuffix('-values')} ({len(said.splitlines())} objects)")
    return found
