"""A TCP proxy on loopback in front of a broker, whose network can be made slow, narrow, silent or torn."""

import contextlib
import selectors
import socket
import struct
import threading
import time

CHUNK_BYTES = 65_536
TICK_SECONDS = 0.02
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with 0 seconds: close sends RST


class Proxy:
    """Passes connections to `target` ("host:port") on.

    delay_seconds      each piece waits so long
    bytes_per_second   in each direction of each connection; 0: no limit
    silent             connections stay open, and nothing passes
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.delay_seconds = 0.0
        self.bytes_per_second = 0
        self.silent = False
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def calm(self) -> None:
        """A network without faults again."""
        self.delay_seconds, self.bytes_per_second, self.silent = 0.0, 0, False

    def reset_all(self) -> None:
        """Tear every connection: both sides see a reset."""
        for pair in list(self._pairs):
            for side in pair:
                with contextlib.suppress(OSError):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                    side.close()

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
            pair = (client, server)
            self._pairs.add(pair)
            threading.Thread(target=self._serve, args=(pair,), daemon=True).start()

    def _serve(self, pair: tuple[socket.socket, socket.socket]) -> None:
        try:
            with selectors.DefaultSelector() as ready:
                for side in pair:
                    ready.register(side, selectors.EVENT_READ)
                while True:
                    for key, _ in ready.select(TICK_SECONDS):
                        other = pair[1] if key.fileobj is pair[0] else pair[0]
                        if not self._pass(key.fileobj, other):  # type: ignore[arg-type]
                            return
        except (OSError, ValueError):
            return  # torn
        finally:
            self._pairs.discard(pair)
            for side in pair:
                side.close()

    def _pass(self, source: socket.socket, sink: socket.socket) -> bool:
        if self.silent:
            time.sleep(TICK_SECONDS)
            return True
        piece = source.recv(CHUNK_BYTES)
        if self.delay_seconds:
            time.sleep(self.delay_seconds)
        if self.bytes_per_second:
            time.sleep(len(piece) / self.bytes_per_second)
        sink.sendall(piece)
        return bool(piece)
