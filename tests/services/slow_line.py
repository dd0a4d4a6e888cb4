"""A line on which each connection is slow, though several of them are not: a store that is far away."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

_PIECE = 1 << 16


class SlowLine:
    """Passes connections on to a port of loopback: each at `rate` bytes of answers a second, if given.

    `before` is called in the connection's own thread for every request that arrives, with its first line,
    and the request goes on when it returns: it may sleep for a round trip, or wait for other requests.
    `requests` are those first lines, `connections` is how many were made.
    """

    def __init__(
        self, target: int, *, rate: int = 0, before: Callable[[bytes], object] = lambda _: None
    ) -> None:
        self._target = target
        self._rate = rate
        self._before = before
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self.port: int = self._server.getsockname()[1]
        self.connections = 0
        self.requests: list[bytes] = []

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._accepting.join()
        with self._lock:
            for each in self._open:
                _end(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return  # closed: that was all
            server = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self.connections += 1
                self._open |= {client, server}
            for pass_on in (self._requests, self._answers):
                threading.Thread(target=pass_on, args=(client, server), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):  # the other direction has ended
            while data := client.recv(_PIECE):
                if data.startswith((b"GET ", b"HEAD ")):
                    line = data.partition(b"\r\n")[0]
                    with self._lock:
                        self.requests.append(line)
                    self._before(line)
                server.sendall(data)
        _end(server)

    def _answers(self, client: socket.socket, server: socket.socket) -> None:
        free = time.monotonic()
        with suppress(OSError):  # the other direction has ended
            while data := server.recv(_PIECE):
                if self._rate:
                    free = max(free, time.monotonic()) + len(data) / self._rate
                    time.sleep(max(0.0, free - time.monotonic()))
                client.sendall(data)
        _end(client)
        with self._lock:
            self._open -= {client, server}
        server.close()
        client.close()


def _end(which: socket.socket) -> None:
    with suppress(OSError):
        which.shutdown(socket.SHUT_RDWR)
