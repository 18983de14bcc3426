"""Size of the scenarios: small ones in every test run, the whole of them with `-m chaos`; their figures, printed."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.scene import scene
from tests.chaos.workload import Workload

# fixtures and warnings of these tests too
from tests.integration.conftest import bootstrap, launcher, make_cluster  # noqa: F401
from tests.integration.conftest import pytest_configure as configure_warnings

QUICK_EVENTS, FULL_EVENTS = 12_000, 100_000
FIGURES = "figures"


class Figures:
    """Prints what scenarios said as each of them ends, wherever it ran."""

    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Lines for one scenario."""
        said = [text for name, text in report.user_properties if name == FIGURES]
        terminal: Any = self._plugins.get_plugin("terminalreporter")
        if report.when == "call" and said and terminal is not None:
            terminal.ensure_newline()
            for text in said:
                terminal.write_line(f"{text} seconds={report.duration:.0f}")


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors here too; figures are printed."""
    configure_warnings(config)
    if not hasattr(config, "workerinput"):  # else the controlling process prints them
        config.pluginmanager.register(Figures(config), "chaos-figures")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The soak first: the others fit beside its ten minutes."""
    items.sort(key=lambda item: item.name.startswith("test_a_soak"), reverse=True)


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the whole suite was asked for."""
    return "chaos" in request.config.getoption("markexpr").replace("not chaos", "")


@pytest.fixture
def workload(request: pytest.FixtureRequest, full: bool) -> Workload:
    """The events of a scenario."""
    return Workload(request.config.getoption("events") or (FULL_EVENTS if full else QUICK_EVENTS))


@pytest.fixture
def kills(full: bool) -> int:
    return 5 if full else 1


@pytest.fixture
def client(request: pytest.FixtureRequest) -> str:
    """`kafka.client` of the daemons."""
    return str(request.config.getoption("client"))


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Have a scenario's figures printed when it ends."""

    def say(name: str, facts: object) -> None:
        request.node.user_properties.append((FIGURES, f"{name}: {facts}"))

    return say


@pytest.fixture
def new_scene(request, tmp_path, workload, client):
    """Makes scenes: `with new_scene() as made:`, by default on the broker that tests share."""

    def new(brokers="", **options):
        where = brokers or request.getfixturevalue("bootstrap")
        return scene(where, tmp_path, options.pop("workload", workload), client=client, **options)

    return new
