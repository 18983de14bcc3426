"""What the image brings along: `python -m tests.audit FOLDER` reviews the packages of an installed environment.

Prints each package with its version, licence and who asked for it, and fails for one that is not pinned to the version
that is installed, or whose licence is not among those below. `--requirements FILE` writes the pins of what others
publish, for a search of known vulnerabilities.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
OWN = "tidecast"
LICENCES = re.compile(r"\b(MIT|0?BSD|Apache|PSF|Zope|ZPL|ISC|Zlib|CC0|MPL|Mozilla|LGPL|Lesser)", re.IGNORECASE)
OTHERS = re.compile(r"\b(A?GPL|Affero|SSPL|BUSL|Commons Clause|Proprietary)", re.IGNORECASE)


def normal(name: str) -> str:
    """A package's name as indexes spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Name and version of each line `name==version`."""
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}


def licence(package: Distribution) -> str:
    """What a package says its licence is; nothing where it says nothing."""
    said = package.metadata
    classifiers = [c.split(" :: ")[-1] for c in said.get_all("Classifier", []) if c.startswith("License")]
    texts = (said.get("License-Expression"), ", ".join(classifiers), (said.get("License") or "").split("\n")[0])
    return next((text for text in texts if text), "")


def required_by(packages: list[Distribution]) -> dict[str, list[str]]:
    """Who asks for each package, extras included."""
    asked: dict[str, list[str]] = {}
    for package in packages:
        for line in package.requires or []:
            if match := re.match(r"[\w.-]+", line):
                asked.setdefault(normal(match[0]), []).append(package.name)
    return asked


def problems(packages: list[Distribution], pinned: Mapping[str, str]) -> Iterator[str]:
    """A line for each package that should not be there as it is."""
    for package in packages:
        name, said = normal(package.name), licence(package)
        if name == OWN:
            continue
        if (pin := pinned.get(name)) != package.version:
            yield f"{name}: found {package.version}, expected {pin or 'a pin'} of constraints.txt; pin what was tried"
        if not LICENCES.search(said) or OTHERS.search(said):
            yield f"{name}: licence {said or 'unknown'!r} is not among those in tests/audit.py; look at it, then add it"


def main(folder: str, requirements: str | None) -> int:
    """Review the environment in a folder."""
    sites = [str(path) for path in Path(folder).glob("lib/python*/site-packages")]
    packages = sorted(distributions(path=sites), key=lambda package: normal(package.name))
    asked = required_by(packages)
    for package in packages:
        by = ", ".join(sorted(set(asked.get(normal(package.name), []))))
        print(f"{package.name:20} {package.version:14} {licence(package):52.52} {by}")
    if requirements:
        others = [p for p in packages if normal(p.name) != OWN]
        Path(requirements).write_text("".join(f"{normal(p.name)}=={p.version}\n" for p in others))
    found = list(problems(packages, pins(CONSTRAINTS.read_text())))
    if not packages:
        found = [f"{folder}: no package is installed there; `make audit` makes it"]
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--requirements")
    given = parser.parse_args()
    sys.exit(main(given.folder, given.requirements))
