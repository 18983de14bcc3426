"""Memory that a process may use."""

import ctypes
import os
from pathlib import Path

import pytest

from streamer.adapters.machine import give_back_memory, memory_bytes

PHYSICAL = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
NO_LIMIT_V1 = 9223372036854771712  # 2**63 less a page


def allowed(folder, own, limits):
    """What is allowed with these lines in /proc/self/cgroup and these files under /sys/fs/cgroup."""
    for name, text in limits.items():
        file = folder / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    (folder / "own").write_text(own)
    return memory_bytes(folder / "groups", folder / "own")


def test_without_a_limit_it_is_the_machines(tmp_path):
    assert memory_bytes(tmp_path / "groups", tmp_path / "own") == PHYSICAL > 2**28


@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [
        ("0::/\n", {"memory.max": "1048576"}, 1_048_576),
        ("0::/\n", {"memory.max": "max"}, PHYSICAL),
        (
            "0::/system.slice/tidecast.service\n",
            {
                "memory.max": "max",
                "system.slice/memory.max": "3000000",
                "system.slice/tidecast.service/memory.max": "4000000",
            },
            3_000_000,
        ),
        ("4:memory:/\n0::/\n", {"memory/memory.limit_in_bytes": "2097152"}, 2_097_152),
        ("4:memory:/\n0::/\n", {"memory/memory.limit_in_bytes": NO_LIMIT_V1}, PHYSICAL),
        ("9:cpu,memory:/kubepods/pod1\n", {"memory/memory.limit_in_bytes": "2097152"}, 2_097_152),
        (
            "4:memory:/kubepods/pod1\n1:cpu:/kubepods\n",
            {"memory/memory.limit_in_bytes": NO_LIMIT_V1, "memory/kubepods/pod1/memory.limit_in_bytes": "5000000"},
            5_000_000,
        ),
    ],
    ids=[
        "version 2, a container",
        "version 2, no limit",
        "version 2, a service: the least of its own and of what is around it",
        "version 1, a container",
        "version 1, no limit",
        "version 1, a container that sees the host's path",
        "version 1, a service",
    ],
)
def test_a_limit_of_either_version_of_control_groups_counts(tmp_path, own, limits, expected):
    assert allowed(tmp_path, own, limits) == expected


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_freed_in_between_is_given_back():
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    blocks = [libc.malloc(64 << 10) for _ in range(1000)]  # too small for mappings of their own
    for block in blocks:
        ctypes.memset(block, 1, 64 << 10)
    for block in blocks[:-1]:  # the last one keeps the others from the end of the heap
        libc.free(block)
    before = resident()
    give_back_memory()
    assert before - resident() > 32 << 20
    libc.free(blocks[-1])


def test_a_c_library_that_cannot_give_memory_back_is_asked_nothing(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    give_back_memory()
