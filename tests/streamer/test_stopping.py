"""What a signal does to a process that serves: it finishes, and only a lone daemon is ended by the next one."""

import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.integration.waiting import eventually

PROGRAM = """
import os, sys, time
from streamer.stopping import stop_signal
folder, started, is_worker = sys.argv[1], sys.argv[2] == "started", sys.argv[3] == "worker"
stop = stop_signal(lambda: started, is_worker)
open(folder + "/listens", "w").close()
stop.wait()
open(folder + "/finishing", "w").close()
while not os.path.exists(folder + "/may_end"):
    time.sleep(0.01)
"""
BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@contextmanager
def program(folder, *arguments):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), *arguments])
    try:
        eventually((folder / "listens").exists, "the program listens")
        yield process
    finally:
        process.kill()
        process.wait()


@BOTH
@pytest.mark.parametrize("who", ["daemon", "worker"])
def test_a_signal_before_anything_was_read_ends_the_process_with_0(tmp_path, number, who):
    with program(tmp_path, "unstarted", who) as process:
        process.send_signal(number)
        assert process.wait(30) == 0
    assert not (tmp_path / "finishing").exists()


@BOTH
def test_a_second_signal_ends_a_lone_daemon_at_once(tmp_path, number):
    with program(tmp_path, "started", "daemon") as process:
        process.send_signal(number)
        eventually((tmp_path / "finishing").exists, "it finishes")
        process.send_signal(number)
        assert process.wait(30) == -number


@BOTH
def test_a_second_signal_lets_a_worker_finish(tmp_path, number):
    with program(tmp_path, "started", "worker") as process:
        process.send_signal(number)
        eventually((tmp_path / "finishing").exists, "it finishes")
        process.send_signal(number)
        (tmp_path / "may_end").touch()
        assert process.wait(30) == 0
