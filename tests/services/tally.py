"""Counts the bytes of one client at a server's door, and costs next to nothing.

The kernel moves them (splice), so what is timed through it is as fast as without it: CountingProxy
(registry.py) reads each request and says more, but is a program between two that are faster than it.
"""

import fcntl
import os
import socket
import threading
from contextlib import suppress
from typing import Self

_PIECE = 1 << 20


class Tally:
    """Passes connections on to `upstream` (host:port). What HTTP's heads and answers take is counted too."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._ended = False
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self.sent = self.received = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def reset(self) -> None:
        """Start counting from zero."""
        with self._lock:
            self.sent = self.received = 0

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        with self._lock:
            for each in self._open:
                _end(each, socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed: that was all
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._upstream)
        except OSError:
            client.close()
            return
        both = {client, server}
        with self._lock:
            self._open |= both
        for each in both:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=self._move, args=(server, client, "received"), daemon=True)
        back.start()
        self._move(client, server, "sent")
        back.join()
        with self._lock:
            self._open -= both
        for each in both:
            each.close()

    def _move(self, source: socket.socket, target: socket.socket, counter: str) -> None:
        out, into = os.pipe()
        try:
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIECE)
            while size := os.splice(source.fileno(), into, _PIECE):
                # Counted before it goes on: whoever has the answer finds it counted.
                with self._lock:
                    setattr(self, counter, getattr(self, counter) + size)
                while size:
                    size -= os.splice(out, target.fileno(), size)
        except OSError:
            _end(source, socket.SHUT_RDWR)  # one of the two has gone
        finally:
            _end(target, socket.SHUT_WR)
            os.close(out)
            os.close(into)


def _end(which: socket.socket, how: int) -> None:
    with suppress(OSError):
        which.shutdown(how)
