"""Memory that a process may use."""

from streamer.adapters.machine import memory_bytes


def test_a_containers_limit_is_what_its_processes_may_use(tmp_path):
    limit = tmp_path / "memory.max"
    physical = memory_bytes(limit)
    limit.write_text("1048576\n")
    assert memory_bytes(limit) == 1_048_576
    limit.write_text("max\n")
    assert memory_bytes(limit) == physical > 2**28
