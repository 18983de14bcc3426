"""The review of what the image brings along."""

from importlib.metadata import Distribution, distributions

import pytest

from tests.audit import CONSTRAINTS, main, pins, problems

PINNED = pins(CONSTRAINTS.read_text())


class Package(Distribution):
    """A package that says what a test has it say."""

    def __init__(self, name: str, version: str, *lines: str) -> None:
        self._text = "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *lines])

    def read_text(self, filename):
        return self._text if filename == "METADATA" else None

    def locate_file(self, path):
        raise NotImplementedError


def test_what_the_daemon_needs_is_pinned_as_it_is_installed_and_of_a_known_licence():
    needed = {"confluent-kafka", "kafka-python", "numpy", "onnxruntime", "orjson", "pydantic", "waitress"}
    installed = [package for package in distributions() if package.name.lower() in needed]
    assert len(installed) == len(needed)
    assert list(problems(installed, PINNED)) == []


@pytest.mark.parametrize(
    ("package", "problem"),
    [
        (Package("a_b", "1", "License-Expression: MIT"), "a-b: found 1, expected a pin"),
        (Package("c", "3", "License-Expression: MIT"), "c: found 3, expected 2"),
        (Package("c", "2"), "c: licence 'unknown'"),
        (Package("c", "2", "License-Expression: AGPL-3.0-only"), "c: licence 'AGPL-3.0-only'"),
        (Package("c", "2", "License: Proprietary, ask MIT"), "c: licence 'Proprietary, ask MIT'"),
    ],
)
def test_a_package_that_is_not_pinned_or_not_free_is_a_problem(package, problem):
    [found] = problems([package], {"c": "2"})
    assert found.startswith(problem)


def test_an_empty_environment_is_not_a_clean_one(tmp_path, capsys):
    assert main(str(tmp_path), None) == 1
    assert "no package is installed there" in capsys.readouterr().err
