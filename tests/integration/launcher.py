"""Find a way to run Apache Kafka on this machine, or say what to install.

    1. Java 17 and the broker's jars, fetched once by Maven and kept in the user's cache
    2. a Docker engine, through testcontainers (on the host's network, so that both ways look alike from outside)

Either runs the same two programs over a folder with a `server.properties`: format it if it is new, then serve.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Protocol

KAFKA_VERSION = "4.4.0"
JAVA_VERSION = 17  # what Kafka 4 brokers need
LOGGING_VERSION = "1.7.36"  # of slf4j-api, which this Kafka brings without anything that prints
MAVEN_TIMEOUT_SECONDS = 600
JVM_OPTIONS = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")  # small, and quick to start

FORMAT_AND_SERVE = """
"$@" kafka.tools.StorageTool format --ignore-formatted -t "$0" -c server.properties || exit
exec "$@" kafka.Kafka server.properties
"""  # exec: the process that was started is the one that serves, and gets the signals

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tidecast</groupId><artifactId>test-broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>{LOGGING_VERSION}</version></dependency>
  </dependencies>
</project>
"""


class KafkaUnavailableError(Exception):
    """This machine cannot run a broker; the message says why and what to install."""


class Process(Protocol):
    """The part of `subprocess.Popen` that a broker needs; pid 0: another machinery ends it."""

    pid: int

    def poll(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def wait(self, timeout: float) -> int: ...


class Launcher(Protocol):
    """Runs a broker over a folder that holds its `server.properties`."""

    def launch(self, folder: Path, cluster_id: str, log: Path) -> Process: ...


def find_launcher() -> Launcher:
    """The first way that works; KafkaUnavailableError names every way and what it lacks."""
    problems = []
    for way in (JavaLauncher, DockerLauncher):
        try:
            return way()
        except KafkaUnavailableError as problem:
            problems.append(f"  - {problem}")
    raise KafkaUnavailableError(
        "the integration tests need an Apache Kafka broker and found none:\n"
        + "\n".join(problems)
        + f"\nInstall Java {JAVA_VERSION} and Maven (Debian: apt-get install openjdk-17-jre-headless maven), "
        "or start a Docker engine and install testcontainers, "
        "or name a running broker: TIDECAST_TEST_BOOTSTRAP=host:port"
    )


class JavaLauncher:
    """A plain Java process."""

    def __init__(self) -> None:
        check_java()
        self.class_path = f"{kafka_jars()}/*"

    def launch(self, folder: Path, cluster_id: str, log: Path) -> Process:
        java = ["java", *JVM_OPTIONS, "-cp", self.class_path]
        with log.open("wb") as output:
            return subprocess.Popen(
                ["sh", "-c", FORMAT_AND_SERVE, cluster_id, *java],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def check_java() -> None:
    """KafkaUnavailableError unless `java` is new enough."""
    if shutil.which("java") is None:
        raise KafkaUnavailableError("Java: no `java` on the PATH")
    answer = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', answer)
    if found is None or int(found[1]) < JAVA_VERSION:
        raise KafkaUnavailableError(f"Java: version {JAVA_VERSION} or newer is needed, `java -version` says {answer!r}")


def kafka_jars() -> Path:
    """The folder of the broker's jars, fetched by Maven when it is not there yet.

    The folder appears complete or not at all, so runs side by side, or a run cut short, do no harm.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidecast"
    jars = cache / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    if shutil.which("mvn") is None:
        raise KafkaUnavailableError(f"Maven: no `mvn` on the PATH to fetch org.apache.kafka:kafka_2.13:{KAFKA_VERSION}")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetching-") as scratch:
        fetched = Path(scratch) / "jars"
        fetch_jars(Path(scratch) / "pom.xml", fetched)
        try:
            fetched.rename(jars)
        except OSError:
            if not jars.is_dir():  # else another run was first, and its jars are as good
                raise
    return jars


def fetch_jars(pom: Path, folder: Path) -> None:
    """Copy Kafka's broker and everything it needs into a folder."""
    pom.write_text(POM)
    command = ["mvn", "--quiet", "--batch-mode", "--file", str(pom), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MAVEN_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise KafkaUnavailableError(f"Maven: not done after {MAVEN_TIMEOUT_SECONDS} s: {' '.join(command)}") from None
    if done.returncode != 0:
        raise KafkaUnavailableError(f"Maven: {' '.join(command)} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")


class DockerLauncher:
    """A container on the host's network."""

    def __init__(self) -> None:
        try:
            from testcontainers.core.docker_client import DockerClient
        except ImportError:
            raise KafkaUnavailableError("Docker: the Python package testcontainers is not installed") from None
        try:
            DockerClient().client.ping()
        except Exception as problem:  # the engine's client raises many kinds; all mean the same here
            raise KafkaUnavailableError(f"Docker: no engine answers: {problem}") from None

    def launch(self, folder: Path, cluster_id: str, log: Path) -> Process:
        return ContainerProcess(folder, cluster_id, log)


class ContainerProcess:
    """A broker's container with a process's verbs; testcontainers removes it when the test run is gone."""

    pid = 0

    def __init__(self, folder: Path, cluster_id: str, log: Path) -> None:
        from testcontainers.core.container import DockerContainer

        bin_ = "/opt/kafka/bin"
        form = f"{bin_}/kafka-storage.sh format --ignore-formatted -t {cluster_id} -c server.properties"
        serve = f"{bin_}/kafka-server-start.sh server.properties"
        self.container: Any = (
            DockerContainer(f"apache/kafka:{KAFKA_VERSION}")
            .with_kwargs(network_mode="host", user=f"{os.getuid()}:{os.getgid()}", working_dir=str(folder))
            .with_volume_mapping(str(folder), str(folder), "rw")
            .with_env("KAFKA_HEAP_OPTS", " ".join(JVM_OPTIONS))
            .with_env("LOG_DIR", str(folder))
            .with_command(["sh", "-c", f"({form} && exec {serve}) > {log} 2>&1"])
            .start()
        )

    def poll(self) -> int | None:
        wrapped = self.container.get_wrapped_container()
        wrapped.reload()
        return wrapped.attrs["State"]["ExitCode"] if wrapped.status == "exited" else None

    def terminate(self) -> None:
        self.container.get_wrapped_container().kill(signal="SIGTERM")

    def kill(self) -> None:
        self.container.get_wrapped_container().kill()

    def wait(self, timeout: float) -> int:
        return self.container.get_wrapped_container().wait(timeout=timeout)["StatusCode"]
