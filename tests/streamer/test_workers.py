"""Several processes under one parent: what is passed on, who is started again, and when all end."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from urllib.request import urlopen

import pytest

from streamer.__main__ import main
from streamer.demo import MODEL_PATH
from streamer.errors import ConfigError
from streamer.settings import load_settings
from streamer.workers import MOST_FAILURES, check_workers, of_worker, worker_command
from tests.integration.waiting import eventually

PARENT = """
import os, sys
from streamer import logs
from streamer.workers import Workers
logs.set_up()
folder = sys.argv[3]
command = lambda number: [sys.executable, "-c", sys.argv[2], str(number), folder]
open(folder + "/clock", "w").close()
clock = lambda: float(os.path.getsize(folder + "/clock"))  # its seconds are the bytes that workers write there
sys.exit(Workers(int(sys.argv[1]), command, first_delay_seconds=0.0, monotonic=clock).run())
"""
SERVES = """
import os, sys, time
from streamer.stopping import stop_signal
from streamer.workers import end_with_parent
stop = stop_signal(lambda: True, is_worker=True)
end_with_parent()
with open(sys.argv[2] + "/pids", "a") as pids:
    pids.write(f"{sys.argv[1]} {os.getpid()}\\n")
while not stop.wait(0.01):
    pass
"""
FINISHES = (
    SERVES
    + """
open(sys.argv[2] + "/finishing", "w").close()
while not os.path.exists(sys.argv[2] + "/may_end"):
    time.sleep(0.01)
"""
)


@contextmanager
def parent(folder, count, worker):
    """A parent of `count` processes that run a program of their own."""
    command = [sys.executable, "-c", PARENT, str(count), worker, str(folder)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lives(folder):
    """(number, pid) of every worker that came to life, in order."""
    path = folder / "pids"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(number), int(pid)) for number, pid in map(str.split, lines)]


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_the_parent_ends_with_its_workers(tmp_path, number):
    with parent(tmp_path, 3, SERVES) as process:
        eventually(lambda: len(lives(tmp_path)) == 3, "three workers")
        process.send_signal(number)
        assert process.wait(30) == 0
    assert {worker for worker, _ in lives(tmp_path)} == {0, 1, 2}
    assert all(is_gone(pid) for _, pid in lives(tmp_path))


def test_a_signal_that_comes_while_the_workers_start_ends_them_too(tmp_path):
    with parent(tmp_path, 2, "import time; print(1, flush=True); time.sleep(600)") as process:
        eventually(lambda: log_of(tmp_path).count("worker_started") == 2, "two workers")
        process.terminate()
        assert process.wait(30) == 0


def test_a_second_signal_ends_workers_that_do_not_finish_and_the_parent_with_1(tmp_path):
    with parent(tmp_path, 2, FINISHES) as process:
        eventually(lambda: len(lives(tmp_path)) == 2, "two workers")
        process.terminate()
        eventually((tmp_path / "finishing").exists, "a worker that finishes")
        assert process.poll() is None
        process.terminate()
        assert process.wait(30) == 1
    assert all(is_gone(pid) for _, pid in lives(tmp_path))


def test_workers_that_a_supervisor_signals_as_well_as_their_parent_finish_all_the_same(tmp_path):
    with parent(tmp_path, 1, FINISHES) as process:
        eventually(lambda: lives(tmp_path), "a worker")
        os.kill(lives(tmp_path)[0][1], signal.SIGTERM)
        eventually((tmp_path / "finishing").exists, "the worker finishes")
        process.terminate()
        eventually(lambda: "event=signal_passed_on signal=SIGTERM workers=1" in log_of(tmp_path), "it was passed on")
        (tmp_path / "may_end").touch()
        assert process.wait(30) == 0
    assert "event=worker_ended number=0 exit=0" in log_of(tmp_path)


def log_of(folder):
    return (folder / "log").read_text()


def test_a_worker_that_is_killed_is_started_again_and_the_others_go_on(tmp_path):
    with parent(tmp_path, 2, SERVES) as process:
        eventually(lambda: len(lives(tmp_path)) == 2, "two workers")
        before = dict(lives(tmp_path))
        os.kill(before[1], signal.SIGKILL)
        eventually(lambda: len(lives(tmp_path)) == 3, "a new worker")
        assert lives(tmp_path)[2][0] == 1
        assert not is_gone(before[0])
        process.terminate()
        assert process.wait(30) == 0
    assert "level=error event=worker_ended number=1 exit=-9" in log_of(tmp_path)


def test_a_refused_setting_ends_all_with_2(tmp_path):
    worker = f"import sys\nif sys.argv[1] == '1': sys.exit(2)\n{SERVES}"
    with parent(tmp_path, 3, worker) as process:
        assert process.wait(30) == 2
    assert all(is_gone(pid) for _, pid in lives(tmp_path))


def test_2_in_a_later_life_is_a_failure_as_any_other(tmp_path):
    # brokers that are away refuse a start too, and those that serve ride it out
    worker = (
        "import os, sys\npath = sys.argv[2] + '/lives'\nopen(path, 'a').write('x')\n"
        f"lived = os.path.getsize(path)\nif lived < 3: sys.exit([1, 2][lived - 1])\n{SERVES}"
    )
    with parent(tmp_path, 1, worker) as process:
        eventually(lambda: lives(tmp_path), "the third life")
        process.terminate()
        assert process.wait(30) == 0


def test_a_worker_that_always_fails_ends_all_with_1(tmp_path):
    worker = f"import sys\nif sys.argv[1] == '0': sys.exit(1)\n{SERVES}"
    with parent(tmp_path, 2, worker) as process:
        assert process.wait(60) == 1
    log = log_of(tmp_path)
    assert log.count("event=worker_ended number=0 exit=1") == MOST_FAILURES
    assert all(is_gone(pid) for _, pid in lives(tmp_path))


def test_a_life_of_a_minute_is_no_failure_and_ends_a_row_of_them(tmp_path):
    seconds = [0, 0, 60, 0, 0, 59, 0, 0, 0]  # of each life: the fifth failure in a row is the last but one
    worker = (
        "import os, sys\nfolder = sys.argv[2]\nopen(folder + '/lives', 'a').write('x')\n"
        f"lived = {seconds}[os.path.getsize(folder + '/lives') - 1]\nopen(folder + '/clock', 'a').write('s' * lived)\n"
        "sys.exit(1)"
    )
    with parent(tmp_path, 1, worker) as process:
        assert process.wait(60) == 1
    lived = re.findall(r"event=worker_ended number=0 exit=1 lived=(\d+)", log_of(tmp_path))
    assert list(map(int, lived)) == seconds[:8]


def test_workers_end_when_their_parent_is_killed(tmp_path):
    with parent(tmp_path, 2, SERVES) as process:
        eventually(lambda: len(lives(tmp_path)) == 2, "two workers")
        process.kill()
        for _, pid in lives(tmp_path):
            eventually(lambda pid=pid: is_gone(pid), "the worker ended")


@contextmanager
def before_a_broker(folder, port, *arguments):
    """`streamer run` that has not found a broker: nobody listens where it looks for one."""
    settings = [f"--model.path={MODEL_PATH}", "--kafka.group_id=g", "--input.topics=t", f"--http.port={port}"]
    command = [sys.executable, "-m", "streamer", "run", *arguments, *settings, "--kafka.bootstrap_servers=127.0.0.1:1"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_port_in_use_is_refused_at_once_where_no_parent_before_can_have_left_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with before_a_broker(tmp_path, port) as process:
            assert process.wait(30) == 2
    assert "event=port_awaited" not in log_of(tmp_path)


def test_a_worker_waits_for_its_port_while_that_of_a_parent_before_drains(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as predecessor:
        port = predecessor.getsockname()[1]
        with before_a_broker(tmp_path, port, "--worker=0") as process:
            eventually(lambda: f"worker=0 event=port_awaited port={port}" in log_of(tmp_path), "it waits")
            predecessor.close()
            eventually(lambda: answers(port), "its probes answer")
            process.terminate()
            assert process.wait(30) == 0


def test_a_worker_that_waits_for_its_port_ends_when_it_is_told_to(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as predecessor:
        port = predecessor.getsockname()[1]
        with before_a_broker(tmp_path, port, "--worker=0") as process:
            eventually(lambda: "event=port_awaited" in log_of(tmp_path), "it waits")
            process.terminate()
            assert process.wait(30) == 0


def answers(port):
    try:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as page:
            return page.status == 200
    except OSError:
        return False


def settings(**given):
    flags = [f"--{name}={value}" for name, value in given.items()]
    return load_settings(flags, {}, required=())


def test_each_worker_has_its_own_port_and_place_in_the_group():
    given = settings(**{"http.port": 9108, "kafka.group_instance_id": "big"})
    found = [of_worker(given, number) for number in range(3)]
    assert [s.http.port for s in found] == [9108, 9109, 9110]
    assert [s.kafka.group_instance_id for s in found] == ["big-0", "big-1", "big-2"]
    assert all(s.model_copy(update={"http": given.http, "kafka": given.kafka}) == given for s in found)


def test_dynamic_members_stay_so_and_no_port_stays_none():
    worker = of_worker(settings(**{"http.port": 0}), 2)
    assert worker.http.port == 0
    assert worker.kafka.group_instance_id == ""


@pytest.mark.parametrize("count", [-1, 0, 257])
def test_a_number_of_workers_out_of_range_is_refused(count):
    with pytest.raises(ConfigError, match=f"--workers: found {count}, expected 1 to 256"):
        check_workers(settings(), count)


def test_a_worker_takes_no_module_from_where_its_parent_was_started(tmp_path):
    (tmp_path / "streamer.py").write_text("raise SystemExit('not this one')")
    done = subprocess.run(worker_command(["--no.such=1"], 0), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "flag --no.such: there is no such setting" in done.stderr) == (2, True)


def test_ports_beyond_the_last_one_are_refused_before_anything_starts(capsys):
    flags = ["--http.port=65535", "--model.path=m", "--kafka.group_id=g", "--input.topics=t"]
    assert main(["run", "--workers", "2", *flags]) == 2
    assert "which makes 65536 the port of the last of 2 workers" in capsys.readouterr().err


def test_every_line_of_a_workers_log_names_it(tmp_path):
    program = "from streamer import logs; logs.set_up(3); logs.log('started', model='m')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "level=info worker=3 event=started model=m\n"
