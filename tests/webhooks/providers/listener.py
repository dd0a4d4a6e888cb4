"""A small HTTP server on loopback that does what a test says and ends with it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from linkspan.webhooks.base import Request

Answer = Callable[[BaseHTTPRequestHandler, Request], None]


def plain(status: int, body: bytes = b"", **headers: str) -> Answer:
    """An answer that is always the same."""

    def answer(handler: BaseHTTPRequestHandler, _: Request) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@contextmanager
def listening(answer: Answer) -> Iterator[tuple[str, list[Request]]]:
    """The server's address, and the requests that it got, as the receiver hands them to a provider."""
    got: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            parts = urlsplit(self.path)
            request = Request(
                method=self.command,
                path=parts.path,
                query=tuple(parse_qsl(parts.query, keep_blank_values=True)),
                headers=tuple((name.lower(), value) for name, value in self.headers.items()),
                body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
                received=datetime.now(UTC),
            )
            got.append(request)
            answer(self, request)

        do_GET = do_POST = do_OPTIONS = _do  # noqa: N815 - the names of http.server

        def log_message(self, *_: object) -> None:
            """Nothing: the tests look at the requests themselves."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
