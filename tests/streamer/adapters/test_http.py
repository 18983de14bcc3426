"""Metrics and probes over HTTP."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from streamer.adapters.http import THREADS, HttpServer
from streamer.errors import ConfigError


class Daemon:
    """What the probes ask, as a test sets it."""

    healthy = (True, "the loop turns")
    ready = (True, "reading 3 partitions")


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("streamer_records_consumed_total", "Records read.", registry=registry).inc(7)
    return registry


@pytest.fixture
def server(daemon: Daemon, registry: CollectorRegistry) -> Iterator[HttpServer]:
    server = HttpServer("127.0.0.1", 0, registry, lambda: daemon.healthy, lambda: daemon.ready)
    server.start()
    yield server
    server.stop()


def ask(server, path, method="GET", headers=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


def test_metrics_are_prometheus_text(server):
    status, body, headers = ask(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert "streamer_records_consumed_total 7.0\n" in body


def test_metrics_are_openmetrics_for_who_asks(server):
    _, body, headers = ask(server, "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


@pytest.mark.parametrize("probe", ["healthy", "ready"])
def test_a_probe_answers_200_or_503_with_its_reason(server, daemon, probe):
    path = {"healthy": "/healthz", "ready": "/readyz"}[probe]
    assert ask(server, path)[:2] == (200, getattr(daemon, probe)[1] + "\n")
    setattr(daemon, probe, (False, "restoring events-3"))
    assert ask(server, path)[:2] == (503, "restoring events-3\n")


def test_health_and_readiness_are_told_apart(server, daemon):
    daemon.ready = (False, "no partitions")
    assert (ask(server, "/healthz")[0], ask(server, "/readyz")[0]) == (200, 503)


@pytest.mark.parametrize("path", ["/", "/metrics/", "/favicon.ico", "/..%2fetc/passwd"])
def test_other_paths_are_not_found(server, path):
    status, body, _ = ask(server, path)
    assert status == 404
    assert "/metrics" in body


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/nowhere"])
def test_head_answers_as_get_without_a_body(server, path):
    status, body, _ = ask(server, path, "HEAD")
    assert status == ask(server, path)[0]
    assert body == ""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_not_allowed(server, method):
    status, _, headers = ask(server, "/metrics", method)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"


def test_a_large_request_is_refused_and_the_next_one_answered(server):
    assert ask(server, "/metrics", "POST", body=b"x" * 100_000)[0] == 413
    assert ask(server, "/metrics", headers={"X-Long": "x" * 60_000})[0] == 431
    assert ask(server, "/healthz")[0] == 200


def test_a_check_that_fails_is_a_failed_probe(registry, caplog):
    def broken():
        raise ZeroDivisionError

    server = HttpServer("127.0.0.1", 0, registry, broken, lambda: (True, "reading"))
    server.start()
    try:
        assert ask(server, "/healthz")[0] == 500
        assert ask(server, "/readyz")[0] == 200
    finally:
        server.stop()


def test_stopping_ends_every_thread_and_frees_the_port(registry):
    before = set(threading.enumerate())
    server = HttpServer("127.0.0.1", 0, registry, lambda: (True, ""), lambda: (True, ""))
    server.start()
    kept_open = socket.create_connection(("127.0.0.1", server.port))
    kept_open.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert kept_open.recv(12) == b"HTTP/1.1 200"
    assert len(set(threading.enumerate()) - before) == THREADS + 1

    server.stop()

    kept_open.close()
    _until(lambda: set(threading.enumerate()) <= before)
    again = HttpServer("127.0.0.1", server.port, registry, lambda: (True, ""), lambda: (True, ""))
    again.stop()


def test_more_requests_at_once_than_threads_are_all_answered(server):
    answers = []
    clients = [threading.Thread(target=lambda: answers.append(ask(server, "/metrics")[0])) for _ in range(20)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(10)
    assert answers == [200] * 20


def test_a_busy_port_is_refused_with_the_setting_and_the_ways_out(server, registry):
    with pytest.raises(ConfigError) as error:
        HttpServer("127.0.0.1", server.port, registry, lambda: (True, ""), lambda: (True, ""))
    message = str(error.value)
    assert message.startswith("http.port")
    assert str(server.port) in message
    assert "another port" in message


def test_a_port_that_somebody_still_uses_is_awaited(registry, caplog):
    with socket.create_server(("127.0.0.1", 0)) as user:
        port = user.getsockname()[1]

        def leave():
            _until(lambda: f"event=port_awaited port={port} at_most_seconds=60.000" in caplog.text, 30)
            user.close()

        leaving = threading.Thread(target=leave)
        leaving.start()
        server = HttpServer("127.0.0.1", port, registry, lambda: (True, ""), lambda: (True, ""), patience_seconds=60.0)
        leaving.join()
    server.start()
    assert ask(server, "/healthz")[0] == 200
    server.stop()


def test_a_port_that_is_not_freed_in_time_is_refused_as_without_waiting(server, registry, caplog):
    with pytest.raises(ConfigError, match=rf"^http\.port: found {server.port}, but cannot listen"):
        HttpServer("127.0.0.1", server.port, registry, lambda: (True, ""), lambda: (True, ""), patience_seconds=0.01)
    assert caplog.text.count("event=port_awaited") == 1


def test_an_address_of_another_machine_is_refused_by_name(registry):
    with pytest.raises(ConfigError, match=r"^http\.host.*192\.0\.2\.1"):
        HttpServer("192.0.2.1", 0, registry, lambda: (True, ""), lambda: (True, ""))


def _until(condition, seconds=2.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)
