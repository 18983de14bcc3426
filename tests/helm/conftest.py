"""Helm is needed for these tests; `make test` installs it where there is Go."""

import pytest

from tests.helm.chart import tool


@pytest.fixture(autouse=True)
def _helm(request: pytest.FixtureRequest) -> None:
    """Skip what needs a program that is neither here nor to be installed."""
    for program in getattr(request.module, "NEEDS", ()):
        if not tool(program):
            pytest.skip(f"{program} is not installed; `make tools` does it where there is Go")
