"""A TCP proxy that cuts connections: the network as it is on a bad day."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CuttingProxy:
    """Passes bytes to `target`, and cuts the first `cuts` connections that carry `after` bytes of answers.

    With `only_answers_to`, only answers to requests that begin like that are cut, and none of their bytes
    pass: the request was done, and nobody is told.
    """

    def __init__(self, target: int, *, after: int, cuts: int, only_answers_to: bytes) -> None:
        self._target = target
        self._after = after
        self._cuts = cuts
        self._method = only_answers_to
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return  # closed: the test is over
            server = socket.create_connection(("127.0.0.1", self._target))
            matched = threading.Event()
            if not self._method:
                matched.set()
            threading.Thread(target=self._requests, args=(client, server, matched), daemon=True).start()
            threading.Thread(target=self._answers, args=(server, client, matched), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, matched: threading.Event) -> None:
        with contextlib.suppress(OSError):  # the other direction was cut
            while data := client.recv(1 << 16):
                if self._method and data.startswith(self._method):
                    matched.set()
                server.sendall(data)
        _end(client, server)

    def _answers(self, server: socket.socket, client: socket.socket, matched: threading.Event) -> None:
        passed = 0
        with contextlib.suppress(OSError):  # the other direction was cut
            while data := server.recv(1 << 16):
                passed += len(data)
                # "100 Continue" only asks for the request's body.
                answer = not data.startswith(b"HTTP/1.1 100")
                cut = answer and matched.is_set() and passed >= self._after and self._may_cut()
                if not (cut and self._method):
                    client.sendall(data)
                if cut:
                    break
        _end(server, client)

    def _may_cut(self) -> bool:
        with self._lock:
            if self.cut >= self._cuts:
                return False
            self.cut += 1
            return True


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


@contextmanager
def cutting_proxy(
    target: int, *, after: int, cuts: int, only_answers_to: bytes = b""
) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(target, after=after, cuts=cuts, only_answers_to=only_answers_to)
    try:
        yield proxy
    finally:
        proxy.close()
