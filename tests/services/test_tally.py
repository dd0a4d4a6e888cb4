"""The counter at a server's door, before servers of the standard library and ones that hang up."""

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.services.tally import Tally
from tests.waiting import until

BODY = os.urandom(3_000_000)
HEADS = 2_000


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Say nothing."""


@pytest.fixture
def upstream() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_each_client_has_its_own_count(upstream: str) -> None:
    with Tally(upstream) as pushes, Tally(upstream) as pulls:
        sender, reader = (http.client.HTTPConnection(tally.host, timeout=600) for tally in (pushes, pulls))
        sender.request("POST", "/", body=BODY)
        assert sender.getresponse().read() == BODY
        reader.request("GET", "/")
        assert reader.getresponse().read() == b""
        for count in (pushes.sent, pushes.received):
            assert len(BODY) < count < len(BODY) + HEADS
        assert 0 < pulls.sent < HEADS
        assert 0 < pulls.received < HEADS
        pushes.reset()
        assert (pushes.sent, pushes.received) == (0, 0)
        sender.request("GET", "/")  # on the connection that was kept
        sender.getresponse().read()
        assert 0 < pushes.sent < HEADS
        sender.close()
        reader.close()


def test_many_at_once_lose_nothing(upstream: str) -> None:
    with Tally(upstream) as tally:
        answers: list[bytes] = []

        def ask() -> None:
            client = http.client.HTTPConnection(tally.host, timeout=600)
            client.request("POST", "/", body=BODY)
            answers.append(client.getresponse().read())
            client.close()

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [BODY] * 8
        assert 8 * len(BODY) < tally.sent < 8 * (len(BODY) + HEADS)


def test_who_ends_its_half_still_hears_the_answer() -> None:
    """As TCP has it: a client that has said all is answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            server, _ = listener.accept()
            with server:
                heard = b""
                while piece := server.recv(1 << 16):
                    heard += piece
                server.sendall(heard[::-1])

        thread = threading.Thread(target=serve)
        thread.start()
        upstream = f"127.0.0.1:{listener.getsockname()[1]}"
        with Tally(upstream) as tally, socket.create_connection(_address(tally)) as client:
            client.sendall(b"abc")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(10) == b"cba"
            assert client.recv(10) == b""
        thread.join()


def test_a_server_that_is_not_there_is_a_connection_that_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nobody = f"127.0.0.1:{gone.getsockname()[1]}"
    with Tally(nobody) as tally, socket.create_connection(_address(tally)) as client:
        assert client.recv(10) == b""
        assert tally.received == 0


def test_its_end_is_the_end_of_open_connections(upstream: str) -> None:
    before = threading.active_count()
    with Tally(upstream) as tally:
        client = socket.create_connection(_address(tally))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 204")
    with client:
        assert client.recv(10) == b""
    until(lambda: threading.active_count() <= before, what="the end of its threads")


def _address(tally: Tally) -> tuple[str, int]:
    host, _, port = tally.host.rpartition(":")
    return host, int(port)
