"""Metrics and probes over HTTP: `/metrics`, `/healthz`, `/readyz`, in threads of their own.

`/healthz` says whether the loop makes progress, never whether a broker answers: restarting the process
does not mend a broker. `/readyz` says whether events are being read.
"""

import errno
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable
from threading import Thread
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, make_wsgi_app
from waitress.server import create_server
from waitress.wasyncore import close_all

from streamer.errors import ConfigError
from streamer.logs import log

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

Check = Callable[[], tuple[bool, str]]

RETRY_SECONDS = 0.2  # between attempts at a port in use
THREADS = 4  # one scrape and two probes at once, and one to spare
LIMITS = {
    "threads": THREADS,
    "connection_limit": 64,
    "channel_timeout": 15,  # seconds an idle or unfinished connection is kept
    "cleanup_interval": 5,
    "max_request_header_size": 16_384,
    "max_request_body_size": 1_024,  # nothing served here takes a body
}


class HttpServer:
    """A small server around a metrics registry and two checks.

    port     0 takes a free one; `port` then tells which
    healthy  whether the loop makes progress, and a reason
    ready    whether events are being read, and a reason
    patience_seconds  for how long to wait for a port that somebody else still uses

    The checks run in the server's threads. Raises ConfigError where it cannot listen.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        healthy: Check,
        ready: Check,
        patience_seconds: float = 0.0,
    ) -> None:
        listener = _listen(host, port, patience_seconds)
        self.port: int = listener.getsockname()[1]
        self._connections: dict[int, Any] = {}
        self._server = create_server(
            _application(registry, {"/healthz": healthy, "/readyz": ready}),
            map=self._connections,
            sockets=[listener],
            asyncore_use_poll=True,  # select() fails where the process has more than 1,024 files open
            ident=None,
            **LIMITS,
        )
        self._thread = Thread(target=self._server.run, name="http", daemon=True)

    def start(self) -> None:
        """Answer requests from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and end the threads; an answer at that very moment may be lost.

        1. end the workers   2. send what they wrote and close all sockets in the loop's own thread, which ends it
        """
        self._server.task_dispatcher.shutdown()
        if self._thread.is_alive():
            trigger = self._server.trigger
            with trigger.lock:  # or a worker's pull could run it, and close the pipe, before this one
                trigger.thunks.append(self._close)
                trigger.pull_trigger()
            self._thread.join()
        else:
            self._close()

    def _close(self) -> None:
        for connection in list(self._connections.values()):
            if getattr(connection, "total_outbufs_len", 0):
                connection.handle_write()
        close_all(self._connections, ignore_all=True)


def _listen(host: str, port: int, patience_seconds: float) -> socket.socket:
    until, awaited = time.monotonic() + patience_seconds, False
    while True:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            return socket.create_server((str(address[0]), port), family=family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= until:
                raise _refused(host, port, error) from None
        if not awaited:
            log("port_awaited", logging.WARNING, port=port, at_most_seconds=patience_seconds)
        awaited = True
        time.sleep(RETRY_SECONDS)


def _refused(host: str, port: int, error: OSError) -> ConfigError:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(f"http.host: found {host!r}, expected an address of this machine; use 127.0.0.1 or 0.0.0.0")
    return ConfigError(
        f"http.port: found {port}, but cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}; "
        "stop what uses it, choose another port, or set 0 to turn metrics and probes off"
    )


def _application(
    registry: CollectorRegistry, checks: dict[str, Check]
) -> Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]:
    metrics = make_wsgi_app(registry)

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            return _plain(start_response, "405 Method Not Allowed", "GET and HEAD only", ("Allow", "GET, HEAD"))
        body = answer({**environ, "REQUEST_METHOD": "GET"}, start_response)
        return body if method == "GET" else []

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            page: Iterable[bytes] = metrics(environ, start_response)
            return page
        if path in checks:
            ok, reason = checks[path]()
            return _plain(start_response, "200 OK" if ok else "503 Service Unavailable", reason)
        return _plain(start_response, "404 Not Found", "there are /metrics, /healthz and /readyz")

    return application


def _plain(start_response: "StartResponse", status: str, text: str, *headers: tuple[str, str]) -> Iterable[bytes]:
    body = f"{text}\n".encode()
    start_response(
        status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *headers]
    )
    return [body]
