"""A proxy that knows nothing of HTTP and breaks connections: at a byte, silently, or before an answer."""

import contextlib
import socket
import threading
from collections.abc import Iterator

_PIECE = 1 << 16
# Bytes in the kernel that wait to be passed on, and are lost with a connection. By default that may be more
# than a client keeps (tcp_rmem, 32 MiB on new kernels), once the machine is busy.
_WAITING = 1 << 20


class CuttingProxy:
    """Passes bytes between clients and `upstream` ("host:port") until it is told to break something."""

    def __init__(self, upstream: str) -> None:
        host, port = upstream.split(":")
        self._upstream = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Whatever it accepts has this too (socket(7)).
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WAITING)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.passed = 0
        """Bytes from clients to the registry."""
        self.cuts: list[int] = []
        """Each breaks a connection once `passed` is there."""
        self.stalls: list[int] = []
        """As `cuts`, but the connection stays open and nothing moves any more."""
        self.mute_after: int | None = None
        """Once `passed` is there the next answer never arrives: the connection is closed instead."""
        self.closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Break all, and take no more."""
        self.closed.set()
        self._listener.close()
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._upstream) as server:
            with self._lock:
                self._open |= {client, server}
            back = threading.Thread(target=self._answers, args=(server, client), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                for data in _pieces(client):
                    if not self._let_through(data, server):
                        break
            for each in (client, server):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            back.join()
            with self._lock:
                self._open -= {client, server}

    def _let_through(self, data: bytes, server: socket.socket) -> bool:
        cut = self.cuts and self.passed + len(data) >= self.cuts[0]
        if cut:
            data = data[: max(0, self.cuts.pop(0) - self.passed)]
        if self.stalls and self.passed + len(data) >= self.stalls[0]:
            self.stalls.pop(0)
            self.closed.wait()
            return False
        server.sendall(data)
        self.passed += len(data)
        return not cut

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for data in _pieces(server):
                if self.mute_after is not None and self.passed >= self.mute_after:
                    self.mute_after = None
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)


def _pieces(source: socket.socket) -> Iterator[bytes]:
    while data := source.recv(_PIECE):
        yield data
