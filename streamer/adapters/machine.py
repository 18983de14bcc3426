"""The machine, or the part of it that a container or a service may use."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def memory_bytes(groups: Path = GROUPS, own: Path = OWN_GROUPS) -> int:
    """Memory that this process may use, as far as the system says: of the machine's and all limits the least."""
    limits = (limit for file in _limit_files(groups, own) if (limit := _limit(file)) is not None)
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *limits])


def give_back_memory() -> None:
    """Give what was freed back to the system, where the C library can.

    The states and records of a restore are freed in between others that stay; glibc keeps such pages, about 1 MB more
    after each rebalance. Source: malloc_trim(3).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _limit_files(groups: Path, own: Path) -> Iterator[Path]:
    """Of each control group this process is in, and of those around it.

    Lines of /proc/self/cgroup are number:controllers:path; version 2 has one, without controllers. In a container the
    path may be the host's, of which only the end is mounted, as the root. Source: cgroups(7).
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        inside = PurePosixPath(path.lstrip("/"))
        for place in (inside, *inside.parents):
            if not controllers:
                yield groups / place / "memory.max"
            elif "memory" in controllers.split(","):
                yield groups / "memory" / place / "memory.limit_in_bytes"


def _limit(file: Path) -> int | None:
    """None where there is none: version 2 says "max", version 1 a number near 2**63."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
