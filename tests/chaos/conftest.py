"""Size of the scenarios: small ones in every test run, the whole of them with `-m chaos`."""

import pytest

# fixtures and warnings of these tests too
from tests.integration.conftest import bootstrap, launcher, make_cluster, pytest_configure  # noqa: F401

QUICK_EVENTS, FULL_EVENTS = 12_000, 100_000


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the whole suite was asked for."""
    return "chaos" in request.config.getoption("markexpr").replace("not chaos", "")


@pytest.fixture
def events(full: bool) -> int:
    return FULL_EVENTS if full else QUICK_EVENTS


@pytest.fixture
def kills(full: bool) -> int:
    return 5 if full else 1
