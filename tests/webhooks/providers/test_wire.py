"""Bodies and headers on the wire: slow, huge, chunked, ambiguous."""

import re
import socket
import time
from dataclasses import replace

import pytest

from linkspan.webhooks.http import connections
from tests.waiting import until
from tests.webhooks.serving import headers, push, raw, request
from tests.webhooks.stage import Stage, patient


class TestBodies:
    """Sizes and times, on the wire."""

    LIMITS = patient(body_bytes=3 << 20, small_bytes=1 << 20, refused_burst=1e9)
    IMPATIENT = replace(LIMITS, read_seconds=1.0)

    def test_the_biggest_is_taken_and_one_more_byte_is_not(self, stage: Stage) -> None:
        stage.serve(limits=self.LIMITS)
        room = (3 << 20) - len(push(more=""))
        assert stage.call(push(more="x" * room)).status_code == 202
        assert stage.call(push(more="x" * (room + 1))).status_code == 413

    def test_too_long_by_its_own_word_is_not_even_read(self, stage: Stage) -> None:
        stage.serve(limits=self.LIMITS)
        answer = raw(
            stage.port, request(b"", "Content-Length: 4000000", "Expect: 100-continue", length=False)
        )
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer.lower()

    def test_chunks_are_counted_while_they_come(self, stage: Stage) -> None:
        stage.serve(limits=self.LIMITS)
        head = request(b"", "Transfer-Encoding: chunked", length=False)
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        assert raw(stage.port, head, *[chunk] * 100).startswith(b"HTTP/1.1 413")

    def test_chunks_are_a_body_like_another(self, stage: Stage) -> None:
        stage.serve(limits=self.LIMITS)
        body = push()
        lines = [f"{name}: {value}" for name, value in headers(body).items()]
        head = request(b"", "Transfer-Encoding: chunked", *lines, length=False)
        parts = [
            b"%x\r\n%s\r\n" % (len(body[at : at + 50]), body[at : at + 50]) for at in range(0, len(body), 50)
        ]
        assert raw(stage.port, head, *parts, b"0\r\n\r\n").startswith(b"HTTP/1.1 202")
        assert len(stage.texts) == 1

    @pytest.mark.parametrize("sent", [b"", b"{"])
    def test_a_body_that_does_not_come_is_not_waited_for(self, stage: Stage, sent: bytes) -> None:
        stage.serve(limits=self.IMPATIENT)
        begin = time.monotonic()
        answer = raw(stage.port, request(b"", "Content-Length: 100", length=False) + sent)
        assert answer.startswith(b"HTTP/1.1 408")
        assert time.monotonic() - begin > 0.9

    def test_one_that_comes_a_byte_at_a_time_is_not_either(self, stage: Stage) -> None:
        stage.serve(limits=self.IMPATIENT)
        head = request(b"", "Content-Length: 100", length=False)
        answer = raw(stage.port, head, *[b"x"] * 30, pause=0.05)
        assert answer.startswith(b"HTTP/1.1 408")

    @pytest.mark.parametrize(
        "lines",
        [
            ("Content-Length: 5", "Content-Length: 6"),
            ("Content-Length: 5", "Transfer-Encoding: chunked"),
            ("Content-Length: +5",),
            ("Content-Length: 0x5",),
            ("Content-Length: -5",),
            ("Content-Length: 99999999999999999999999999",),
            ("Transfer-Encoding: gzip, chunked",),
            ("Transfer-Encoding: chunked, chunked",),
            ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ],
    )
    def test_a_length_with_two_meanings_is_refused(self, stage: Stage, lines: tuple[str, ...]) -> None:
        stage.serve(limits=self.IMPATIENT)
        answer = raw(stage.port, request(b"12345", *lines, length=False))
        assert re.match(rb"HTTP/1\.1 (400|408|413|501) ", answer), answer
        assert stage.texts == []

    def test_big_ones_wait_for_each_other_and_small_ones_pass(self, stage: Stage) -> None:
        limits = patient(body_bytes=8 << 20, small_bytes=1 << 16, big_at_once=1)
        stage.serve(limits=limits)
        with socket.create_connection(("127.0.0.1", stage.port)) as big:
            big.sendall(request(b"", "Content-Length: 500000", length=False) + b"x" * 200_000)
            until(lambda: stage.app.state.receiver._bodies._big == 1)
            assert stage.call(push(more="x" * 300_000)).status_code == 503
            assert stage.call(push()).status_code == 202
        until(lambda: stage.app.state.receiver._bodies._big == 0)
        assert stage.call(push(1, more="x" * 300_000)).status_code == 202

    def test_who_hangs_up_in_the_middle_leaves_nothing(self, stage: Stage) -> None:
        stage.serve(limits=self.LIMITS)
        with socket.create_connection(("127.0.0.1", stage.port)) as sock:
            sock.sendall(request(b"", "Content-Length: 500000", length=False) + b"x" * 200_000)
            until(lambda: stage.app.state.receiver._under_way.total() == 1)
        until(lambda: stage.app.state.receiver._under_way.total() == 0)
        assert stage.call(push()).status_code == 202


class TestConnections:
    """Headers that do not come."""

    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "HEADER_SECONDS", 2.0)

    @pytest.mark.parametrize(
        "parts",
        [
            (b"",),
            (b"POST /hooks/git HT",),
            (b"POST /hooks/git HTTP/1.1\r\n", *[b"X-%d: y\r\n" % number for number in range(40)]),
        ],
    )
    def test_slow_headers_are_cut_off(self, stage: Stage, parts: tuple[bytes, ...]) -> None:
        stage.serve()
        assert raw(stage.port, *parts, pause=0.1) == b""

    def test_also_in_the_second_request_of_a_connection(self, stage: Stage) -> None:
        stage.serve()
        first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = raw(stage.port, first, b"POST /hooks/git HTTP/1.1\r\n", pause=0.2)
        assert answer.count(b"HTTP/1.1") == 1

    def test_a_slow_body_is_no_slow_header(self, stage: Stage) -> None:
        stage.serve()
        body = push()
        head = request(
            b"",
            *[f"{k}: {v}" for k, v in headers(body).items()],
            f"Content-Length: {len(body)}",
            length=False,
        )
        assert raw(stage.port, head, body[:10], body[10:], pause=2.5).startswith(b"HTTP/1.1 202")

    def test_headers_have_an_end(self, stage: Stage) -> None:
        stage.serve()
        assert raw(stage.port, request(b"", "X-Long: " + "x" * 1_000_000)).startswith(b"HTTP/1.1 400")
        assert raw(stage.port, request(b"", path="/hooks/git?" + "x" * 5000)).startswith(b"HTTP/1.1 414")

    def test_others_are_served_meanwhile(self, stage: Stage) -> None:
        stage.serve()
        idle = [socket.create_connection(("127.0.0.1", stage.port)) for _ in range(100)]
        try:
            assert stage.call(push()).status_code == 202
        finally:
            for each in idle:
                each.close()
