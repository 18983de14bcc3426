"""Settings for all tests."""

import pytest
from hypothesis import HealthCheck, settings

# no test may depend on how fast the machine is
settings.register_profile("tidecast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tidecast")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What scenarios on real brokers may be varied by."""
    parser.addoption("--client", default="kafka-python", help="kafka.client of the daemons in tests/chaos")
    parser.addoption("--events", type=int, help="of each scenario in tests/chaos; few to try something out")
