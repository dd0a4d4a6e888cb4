"""An HTTP server that answers as a test says: for what neither Azurite nor moto can be made to do."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Answer(NamedTuple):
    """What the server says."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = {}


class Scripted(NamedTuple):
    """The server, and the requests it got, as `METHOD /path?query`."""

    port: int
    seen: list[str]


@contextmanager
def scripted(answer: Callable[[str, str, Mapping[str, str]], Answer]) -> Iterator[Scripted]:
    """Serve `answer(method, path, headers)` on a port of loopback."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append(f"{self.command} {self.path}")
            said = answer(self.command, self.path, dict(self.headers.items()))
            body = said.body.encode()
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in said.headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its signature
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield Scripted(server.server_address[1], seen)
    finally:
        server.shutdown()
        server.server_close()
