"""The prober sees every way in which a request can fail: else its zero would mean nothing."""

import http.server
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest

from demo.prober import Prober, Report
from linkspan.processes import free_port
from tests.waiting import until


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    mode = "good"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm: ClassVar[bool] = True
    server: Server

    def do_GET(self) -> None:
        mode = self.server.mode
        if mode == "hang up":
            self.close_connection = True
            return
        body = b"nonsense" if mode == "wrong" else mode.encode()
        self.send_response(503 if mode == "error" else 200)
        self.send_header("Content-Length", str(len(body) + (5 if mode == "short" else 0)))
        self.end_headers()
        self.wfile.write(body)
        if mode in {"short", "silent close"}:
            self.close_connection = True  # without having announced it

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def version_of(body: bytes) -> str:
    if body == b"nonsense":
        raise ValueError("nonsense")
    return body.decode()


def probe(server: Server, mode: str, requests: int = 20) -> Report:
    server.mode = mode
    with Prober(f"http://127.0.0.1:{server.server_address[1]}/", version_of, per_second=200) as prober:
        wait_for(prober, requests)
    return prober.report


def wait_for(prober: Prober, requests: int) -> None:
    def asked() -> bool:
        return all(prober.report.sent[kind] >= requests for kind in ("keep-alive", "new connection"))

    until(asked, what="the prober's requests")


def test_what_is_answered_is_no_failure(server: Server) -> None:
    report = probe(server, "good")
    assert report.failures == []
    assert report.versions["good"] == report.total >= 40
    assert 0 < report.latency(0.5) <= report.latency(1.0) < 240
    assert "0 failed" in report.summary()


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("error", "status 503"),
        ("wrong", "nonsense"),
        ("hang up", "RemoteDisconnected"),
        ("short", "IncompleteRead"),
    ],
)
def test_every_failure_is_counted(server: Server, mode: str, says: str) -> None:
    report = probe(server, mode)
    assert len(report.failures) == report.total >= 40
    assert {failure.kind for failure in report.failures} == {"keep-alive", "new connection"}
    assert all(says in str(failure) for failure in report.failures)


def test_a_connection_that_is_closed_without_a_word_fails_the_next_request(server: Server) -> None:
    report = probe(server, "silent close")
    assert {failure.kind for failure in report.failures} == {"keep-alive"}
    assert len(report.failures) >= report.sent["keep-alive"] // 2 - 1


def test_nobody_there() -> None:
    with Prober(f"http://127.0.0.1:{free_port()}/", version_of, per_second=200) as prober:
        wait_for(prober, 3)
    assert len(prober.report.failures) == prober.report.total
    assert "ConnectionRefused" in prober.report.failures[0].what


def test_versions_in_their_order(server: Server) -> None:
    server.mode = "v1"
    with Prober(f"http://127.0.0.1:{server.server_address[1]}/", version_of, per_second=200) as prober:
        assert prober.wait_for("v1", seconds=600)
        server.mode = "v2"
        assert prober.wait_for("v2", seconds=600)
        assert not prober.wait_for("v3", seconds=0.1)
    assert list(prober.report.versions) == ["v1", "v2"]
    assert prober.report.first_seen["v1"] < prober.report.first_seen["v2"]
