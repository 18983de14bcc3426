"""A real Kafka broker for every test that asks; a machine that cannot run one fails the tests, it never skips them."""

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.broker import Cluster
from tests.integration.launcher import KafkaUnavailableError, Launcher, find_launcher
from tests.integration.members import Member
from tests.integration.records import create_topic

BOOTSTRAP_VARIABLE = "TIDECAST_TEST_BOOTSTRAP"


KAFKA_PYTHON_WARNINGS = (
    "ignore:(read|open)_text is deprecated:DeprecationWarning",  # while it is imported, on Python 3.11 and 3.12
    "ignore:unclosed <socket:ResourceWarning",  # it leaves connections refused, or cut short by close, to the collector
)


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, but for kafka-python's own."""
    for warning in KAFKA_PYTHON_WARNINGS:
        config.addinivalue_line("filterwarnings", warning)


@pytest.fixture(scope="session", autouse=True)
def _collected() -> Iterator[None]:
    """Collect kafka-python's left-overs while its warnings are still let pass."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def launcher() -> Launcher:
    """The way brokers are run on this machine."""
    try:
        return find_launcher()
    except KafkaUnavailableError as problem:
        pytest.fail(str(problem), pytrace=False)


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where a broker shared by all tests of the run answers; use topics and groups of your own on it."""
    if given := os.environ.get(BOOTSTRAP_VARIABLE):
        yield given
        return
    cluster = Cluster(request.getfixturevalue("launcher"))
    try:
        cluster.start()
        yield cluster.bootstrap
    finally:
        cluster.close()


@pytest.fixture(params=["kafka-python", "confluent"])
def kafka_client(request: pytest.FixtureRequest) -> str:
    """`kafka.client`: whoever asks runs with each of them, and expects the same."""
    return str(request.param)


@pytest.fixture
def new_member(bootstrap: str, kafka_client: str) -> Callable[..., Member]:
    """Makes members on topics of their own, of three partitions each unless a test names others."""
    made: dict[str, str] = {}

    def make(**options: object) -> Member:
        for name in ("topic", "output"):
            if name not in options:
                options[name] = made.get(name) or create_topic(bootstrap, name, partitions=3)
                made[name] = str(options[name])
        return Member(bootstrap, **{"client": kafka_client} | options)

    return make


@pytest.fixture
def make_cluster(launcher: Launcher) -> Iterator[Callable[..., Cluster]]:
    """Makes clusters of a test's own, to be stopped and killed: `make_cluster(brokers=3, settings={…})`.

    Not started yet. Closed after the test.
    """
    clusters: list[Cluster] = []

    def make(**options: Any) -> Cluster:
        clusters.append(Cluster(launcher, **options))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close()
