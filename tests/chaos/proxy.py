"""A TCP proxy on loopback in front of a broker, whose network can be made slow, narrow, silent, half-open or torn."""

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from enum import IntEnum

CHUNK_BYTES = 65_536
TICK_SECONDS = 0.02
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with 0 seconds: close sends RST
HEAD = struct.Struct(">ih")  # of a request: its size after these four bytes, and what it asks


class Request(IntEnum):
    """What a client asks, by Kafka's numbers."""

    PRODUCE = 0
    JOIN_GROUP = 11
    INIT_PRODUCER_ID = 22
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class Requests:
    """Tells from the bytes of one connection which requests begin in them."""

    def __init__(self) -> None:
        self._head, self._skip = b"", 0

    def begun(self, piece: bytes) -> list[int]:
        """The requests whose beginning is complete with this piece."""
        found, at = [], 0
        while at < len(piece):
            if self._skip:
                passed = min(self._skip, len(piece) - at)
                self._skip, at = self._skip - passed, at + passed
                continue
            more = piece[at : at + HEAD.size - len(self._head)]
            self._head, at = self._head + more, at + len(more)
            if len(self._head) == HEAD.size:
                size, key = HEAD.unpack(self._head)
                self._head, self._skip = b"", size - (HEAD.size - 4)
                found.append(key)
        return found


class Pair:
    """A client's connection and the one it is passed on to."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.requests = Requests()
        self.is_half = False

    def tear(self) -> None:
        """Both sides see a reset."""
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                side.close()


class Trap:
    """Tears the connection of the next request of one kind, before or after the broker gets it."""

    def __init__(self, request: Request, after: bool) -> None:
        self.request, self.after = request, after
        self.sprung = threading.Event()


class Proxy:
    """Passes connections to `target` ("host:port") on.

    delay_seconds      each piece waits so long
    bytes_per_second   in each direction of each connection; 0: no limit
    silent             connections stay open, and nothing passes
    mute               requests pass, answers wait
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._pairs: set[Pair] = set()
        self._trap: Trap | None = None
        self._closed = False
        self.calm()
        threading.Thread(target=self._accept, daemon=True).start()

    def calm(self) -> None:
        """A network without faults again; what is half-open stays so."""
        self.delay_seconds, self.bytes_per_second, self.silent, self.mute = 0.0, 0, False, False

    def reset_all(self) -> None:
        """Tear every connection."""
        for pair in list(self._pairs):
            pair.tear()

    def half_open_all(self) -> None:
        """The broker loses every connection, and the clients are not told: theirs stay open, and nobody answers."""
        for pair in list(self._pairs):
            pair.is_half = True

    def trap(self, request: Request, after: bool) -> Callable[[], bool]:
        """Tear the connection of the next such request; what is returned tells whether that has happened."""
        self._trap = trap = Trap(request, after)
        return trap.sprung.is_set

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        self.reset_all()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                client.close()
                continue
            pair = Pair(client, server)
            self._pairs.add(pair)
            threading.Thread(target=self._serve, args=(pair,), daemon=True).start()

    def _serve(self, pair: Pair) -> None:
        try:
            with selectors.DefaultSelector() as ready:
                for side in (pair.client, pair.server):
                    ready.register(side, selectors.EVENT_READ)
                while not pair.is_half:
                    for key, _ in ready.select(TICK_SECONDS):
                        if not self._pass(pair, key.fileobj is pair.client):
                            return
            pair.server.close()
            while pair.client.recv(CHUNK_BYTES):  # until the client gives up
                pass
        except (OSError, ValueError):
            return  # torn
        finally:
            self._pairs.discard(pair)
            pair.client.close()
            pair.server.close()

    def _pass(self, pair: Pair, is_request: bool) -> bool:
        if self.silent or (self.mute and not is_request):
            time.sleep(TICK_SECONDS)
            return True
        source, sink = (pair.client, pair.server) if is_request else (pair.server, pair.client)
        piece = source.recv(CHUNK_BYTES)
        if self.delay_seconds:
            time.sleep(self.delay_seconds)
        if self.bytes_per_second:
            time.sleep(len(piece) / self.bytes_per_second)
        trap = self._sprung(pair.requests.begun(piece)) if is_request else None
        if trap is None or trap.after:
            sink.sendall(piece)
        if trap is not None:
            pair.tear()
            trap.sprung.set()
        return bool(piece)

    def _sprung(self, begun: list[int]) -> Trap | None:
        trap = self._trap
        if trap is None or trap.request not in begun:
            return None
        self._trap = None
        return trap
