"""The machine, or the part of it that a container may use."""

import os
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of control groups version 2; "max": no limit


def memory_bytes(limit: Path = CGROUP_LIMIT) -> int:
    """Memory that this process may use, as far as the system says."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        text = limit.read_text().strip()
    except OSError:
        return physical
    return min(physical, int(text)) if text.isdecimal() else physical
