"""Real Kafka brokers for tests: started, stopped, killed and restarted by their process, on loopback.

In order: `cluster = Cluster(find_launcher(), brokers=3)` (now the ports are known: a proxy can be put before a broker,
`cluster.brokers[0].advertised = "127.0.0.1:19092"`), `cluster.start()`, `cluster.brokers[1].kill()`,
`cluster.brokers[1].start()` (on the same port and data), `cluster.close()`.
"""

import random
import socket
import tempfile
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.integration.guard import Guard
from tests.integration.launcher import Launcher, Process
from tests.integration.waiting import eventually

START_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 60.0
STARTED = "Kafka Server started"  # the broker logs it once it is registered, unfenced and serving
PORTS = range(20_000, 32_000)  # below the ports that systems hand out by themselves: a stopped broker's stays free

SETTINGS = {
    "process.roles": "broker,controller",
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "INTERNAL",  # apart from the clients', so that a proxy breaks only theirs
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "true",  # Kafka's default: what must not create topics is tested where it could
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "4000",  # a killed broker is only let in again when its old session has ended
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": str(16 * 2**20),
    "log.index.size.max.bytes": str(2**20),
}


class Broker:
    """One broker: a folder, three ports, and the process that serves them.

    host         where it listens for clients, loopback unless told; read at start, as what follows
    advertised   "host:port" that clients are told to use instead of `address`, such as a proxy's
    settings     broker settings that differ from the cluster's
    """

    def __init__(self, node_id: int, cluster: "Cluster") -> None:
        self.node_id = node_id
        self.cluster = cluster
        self.folder = cluster.folder / str(node_id)
        self.folder.mkdir()
        self.host = "127.0.0.1"
        self.client_port, self.internal_port, self.controller_port = free_ports(3)
        self.advertised: str | None = None
        self.settings: dict[str, str] = {}
        self.process: Process | None = None
        self.starts = 0

    @property
    def address(self) -> str:
        """host:port where the broker itself listens for clients."""
        return f"{self.host}:{self.client_port}"

    def start(self, wait: bool = True) -> None:
        """Start the process, the first time or again; `wait` until it serves (which needs a quorum of brokers)."""
        assert self.process is None, f"broker {self.node_id} already runs"
        self.starts += 1
        properties = self.cluster.settings | self.addresses() | self.settings
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        (self.folder / "server.properties").write_text(text)
        self.process = self.cluster.launcher.launch(self.folder, self.cluster.cluster_id, self.log)
        if self.process.pid:
            self.cluster.guard.watch(self.process.pid)
        if wait:
            self.await_started()

    def await_started(self) -> None:
        """Return when the broker serves; AssertionError with its last words if it does not come to that."""

        def started() -> bool:
            assert self.process is not None
            text = self.log.read_text(errors="replace") if self.log.exists() else ""
            code = self.process.poll()
            assert code is None, f"broker {self.node_id} ended with code {code} instead of starting:\n{text[-4000:]}"
            return STARTED in text

        eventually(started, f"{self.log} says {STARTED!r}", START_TIMEOUT_SECONDS)

    def stop(self) -> None:
        """Ask the broker to shut down (SIGTERM) and wait for its end."""
        self._end(lambda process: process.terminate())

    def kill(self) -> None:
        """End the broker at once (SIGKILL)."""
        self._end(lambda process: process.kill())

    @property
    def log(self) -> Path:
        """What the latest process printed."""
        return self.folder / f"start-{self.starts}.log"

    def _end(self, signal: Callable[[Process], None]) -> None:
        process, self.process = self.process, None
        assert process is not None, f"broker {self.node_id} does not run"
        signal(process)
        process.wait(STOP_TIMEOUT_SECONDS)
        self.cluster.guard.forget(process.pid)

    def addresses(self) -> dict[str, str]:
        """The settings that say who and where it is."""
        internal = f"INTERNAL://127.0.0.1:{self.internal_port}"
        return {
            "node.id": str(self.node_id),
            "log.dirs": str(self.folder / "data"),
            "listeners": f"CLIENT://{self.address},{internal},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"CLIENT://{self.advertised or self.address},{internal}",
        }


class Cluster:
    """One or more brokers that are also each other's controllers.

    settings   broker settings, by their Kafka names, over this module's
    """

    def __init__(self, launcher: Launcher, brokers: int = 1, settings: Mapping[str, object] | None = None) -> None:
        self.launcher = launcher
        self.cluster_id = urlsafe_b64encode(b"t" + uuid.uuid4().bytes[1:]).decode().rstrip("=")  # never "-" in front
        self.folder = Path(tempfile.mkdtemp(prefix="tidecast-kafka-"))
        self.guard = Guard(self.folder)
        self.brokers = [Broker(node_id, self) for node_id in range(1, brokers + 1)]
        voters = ",".join(f"{b.node_id}@127.0.0.1:{b.controller_port}" for b in self.brokers)
        given = {name: str(value) for name, value in (settings or {}).items()}
        self.settings = SETTINGS | replication(brokers) | {"controller.quorum.voters": voters} | given

    @property
    def bootstrap(self) -> str:
        """The addresses clients start from: what the brokers advertise."""
        return ",".join(broker.advertised or broker.address for broker in self.brokers)

    def start(self) -> None:
        """Start every broker and return when all of them serve."""
        for broker in self.brokers:
            broker.start(wait=False)
        for broker in self.brokers:
            broker.await_started()

    def close(self) -> None:
        """End every broker and remove all data."""
        for broker in self.brokers:
            if broker.process is not None:
                broker.kill()
        self.guard.close()


def replication(brokers: int) -> dict[str, str]:
    """Settings for topics that survive the loss of any one of three brokers."""
    copies, needed = min(brokers, 3), min(brokers, 2)
    return {
        "default.replication.factor": str(copies),
        "min.insync.replicas": str(needed),
        "offsets.topic.replication.factor": str(copies),
        "transaction.state.log.replication.factor": str(copies),
        "transaction.state.log.min.isr": str(needed),
    }


def free_ports(count: int) -> list[int]:
    """Ports that nothing on loopback listens to."""
    held: list[socket.socket] = []
    for port in random.sample(PORTS, len(PORTS)):
        listener = socket.socket()
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            listener.close()
            continue
        held.append(listener)
        if len(held) == count:
            break
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports
