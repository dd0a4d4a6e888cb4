"""The receiver over real sockets: what it believes, what it keeps, and what it tells to whom."""

import logging
import re
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from linkspan.errors import WebhookRefused, WebhookUnchecked
from linkspan.webhooks import connections
from linkspan.webhooks.base import Hint, Provider, Reading, Request, WebhookSettings
from linkspan.webhooks.inbox import Inbox
from linkspan.webhooks.inbox_file import recent
from linkspan.webhooks.limits import Limits
from linkspan.webhooks.providers import provider
from linkspan.webhooks.rate import Buckets, neighbourhood
from linkspan.webhooks.receiver import Routes, create_app
from linkspan.webhooks.refusals import Refusals
from tests.webhooks.serving import SECRET, headers, push, raw, request, route, served

QUICK = Limits(refusal_grid=0.0, refused_burst=1e9)


class Made:
    """A provider whose answers a test makes."""

    def __init__(self, reading: Reading | Exception, refusal: Exception | None = None) -> None:
        self._reading = reading
        self._refusal = refusal

    def verify(self, request: Request, settings: WebhookSettings) -> None:
        if self._refusal:
            raise self._refusal

    def read(self, request: Request, settings: WebhookSettings) -> Reading:
        if isinstance(self._reading, Exception):
            raise self._reading
        return self._reading


class Stage:
    """A receiver that is served, its inbox and its log."""

    def __init__(self, folder: Path, log: pytest.LogCaptureFixture) -> None:
        self._held = ExitStack()
        self.inbox = self._held.enter_context(Inbox(folder))
        self.log = log

    def serve(
        self,
        routes: Routes | Mapping[str, WebhookSettings] | None = None,
        limits: Limits = QUICK,
        made: Provider | None = None,
    ) -> httpx.Client:
        self.app: Starlette = create_app(
            {"git": route()} if routes is None else routes,
            self.inbox,
            limits,
            providers=(lambda _name: made) if made else provider,
        )
        self.port = self._held.enter_context(served(self.app))
        url = f"http://127.0.0.1:{self.port}"
        self.http = self._held.enter_context(httpx.Client(base_url=url, timeout=20))
        return self.http

    def call(self, body: bytes, path: str = "/hooks/git", **more: str) -> httpx.Response:
        return self.http.post(path, content=body, headers={**headers(body), **more})

    @property
    def texts(self) -> list[str]:
        return [each.text for each in recent(self.inbox.folder, 1000)]

    @property
    def lines(self) -> list[str]:
        return [record.getMessage() for record in self.log.records if record.name == "linkspan.webhooks"]

    def close(self) -> None:
        self._held.close()


@pytest.fixture
def stage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Stage]:
    caplog.set_level(logging.INFO)
    stage = Stage(tmp_path / "inbox", caplog)
    yield stage
    stage.close()


def test_a_hint_is_on_disk_when_its_sender_hears_so(stage: Stage) -> None:
    stage.serve()
    answer = stage.call(push())
    assert (answer.status_code, answer.content) == (202, b"")
    assert len(stage.texts) == 1
    assert "push by ada" in stage.texts[0]
    assert stage.lines == [f"202 accepted git from 127.0.0.1: {stage.texts[0]} → app-stream/digits"]


def test_told_again_it_is_known_and_the_sender_is_content(stage: Stage) -> None:
    stage.serve()
    assert [stage.call(push()).status_code for _ in range(3)] == [202] * 3
    assert len(stage.texts) == 1
    assert [line.split()[1] for line in stage.lines] == ["accepted", "known", "known"]


def test_another_branch_is_ignored_and_its_sender_is_content(stage: Stage) -> None:
    stage.serve()
    assert stage.call(push(branch="feature")).status_code == 202
    assert stage.texts == []
    assert stage.lines[0].startswith("202 ignored git")
    assert "feature" in stage.lines[0]


def test_who_is_refused_learns_nothing(stage: Stage) -> None:
    """An unknown name, a wrong signature and none get the same bytes."""
    stage.serve()
    body = push()
    answers = [
        stage.call(body, "/hooks/unknown"),
        stage.call(body, "/hooks/.."),
        stage.http.post("/hooks/git", content=body, headers=headers(body, "another secret, a long one")),
        stage.http.post("/hooks/git", content=body),
        stage.http.post("/hooks/git", content=b"\x00{", headers={"X-Hub-Signature-256": "sha256="}),
        stage.http.options("/hooks/git"),
        stage.http.options("/hooks/unknown"),
    ]
    shown = {
        (each.status_code, each.content, tuple(sorted(set(each.headers) - {"date"})))
        for each in answers[:1] + answers[2:]
    }
    assert shown == {(401, b"", ("content-length",))}
    assert answers[1].status_code == 404  # no route of any name
    assert stage.texts == []
    assert "there is no such route" in stage.lines[0]
    assert "x-hub-signature-256" in stage.lines[1]


def test_refusals_take_the_same_time(stage: Stage) -> None:
    stage.serve(limits=Limits(refused_burst=1e9))
    body = push(more="x" * 900_000)

    def median(path: str) -> float:
        times = []
        for _ in range(9):
            begin = time.monotonic()
            assert stage.http.post(path, content=body).status_code == 401
            times.append(time.monotonic() - begin)
        return statistics.median(times)

    known, unknown = median("/hooks/git"), median("/hooks/unknown")
    assert min(known, unknown) >= 0.05
    assert abs(known - unknown) < 0.02


def test_what_cannot_be_read_after_it_was_believed_is_400(stage: Stage) -> None:
    stage.serve()
    for body in (b"{", b"[]", b"{}", b'{"ref": 1}', b"\xff", b"[" * 100_000):
        assert (stage.call(body).status_code, stage.call(body).content) == (400, b"")
    assert stage.texts == []


def test_a_handshake_gets_its_reply_with_200(stage: Stage) -> None:
    reading = Reading(
        ignored="a handshake", reply={"validationResponse": "c\ud800"}, reply_headers={"Allow": "POST"}
    )
    stage.serve(made=Made(reading))
    answer = stage.http.options("/hooks/git")
    assert (answer.status_code, answer.headers["allow"]) == (200, "POST")
    assert answer.json() == {"validationResponse": "c\ud800"}


@pytest.mark.parametrize(
    ("made", "status"),
    [
        (Made(Reading(), WebhookUnchecked("no certificate now")), 503),
        (Made(WebhookUnchecked("AWS is away")), 503),
        (Made(Reading(), WebhookRefused("no")), 401),
        (Made(WebhookRefused("no")), 400),
        (Made(KeyError("a mistake of ours")), 503),
        (Made(Reading(), ZeroDivisionError("a mistake of ours")), 503),
    ],
)
def test_what_a_provider_says_becomes_an_answer_and_never_a_500(
    stage: Stage, made: Made, status: int
) -> None:
    stage.serve(made=made)
    answer = stage.call(push())
    assert (answer.status_code, answer.content) == (status, b"")
    assert ("retry-after" in answer.headers) == (status == 503)


def test_a_full_disk_sends_the_sender_away_for_now(stage: Stage) -> None:
    stage.serve()
    stage.inbox._database.execute("PRAGMA query_only = 1")
    answer = stage.call(push())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert stage.http.get("/readyz").status_code == 503
    assert stage.http.get("/healthz").status_code == 200
    stage.inbox._database.execute("PRAGMA query_only = 0")
    assert stage.call(push()).status_code == 202
    time.sleep(1.1)  # it is asked at most once a second
    assert stage.http.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/hooks", "/hooks/", "/hooks/git/", "/hooks/a/b", "/docs", "/openapi.json"]
)
def test_there_is_nothing_else(stage: Stage, path: str) -> None:
    stage.serve()
    assert stage.http.post(path).status_code == 404
    assert stage.http.get(path).status_code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods_are_the_same_for_every_name(stage: Stage, method: str) -> None:
    stage.serve()
    assert [stage.http.request(method, f"/hooks/{name}").status_code for name in ("git", "x")] == [405] * 2


class TestBodies:
    """Sizes and times, on the wire."""

    LIMITS = Limits(
        body_bytes=3 << 20, small_bytes=1 << 20, read_seconds=1.0, refusal_grid=0.0, refused_burst=1e9
    )

    def test_the_biggest_is_taken_and_one_more_byte_is_not(self, stage: Stage) -> None:
        stage.serve(limits=self.LIMITS)
        room = (3 << 20) - len(push(more=""))
        assert stage.call(push(more="x" * room)).status_code == 202
        assert stage.call(push(more="x" * (room + 1))).status_code == 413

    def test_too_long_by_its_own_word_is_not_even_read(self, stage: Stage) -> None:
        stage.serve(limits=self.LIMITS)
        begin = time.monotonic()
        answer = raw(
            stage.port, request(b"", "Content-Length: 4000000", "Expect: 100-continue", length=False)
        )
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer.lower()
        assert time.monotonic() - begin < 1

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
        stage.serve(limits=self.LIMITS)
        begin = time.monotonic()
        answer = raw(stage.port, request(b"", "Content-Length: 100", length=False) + sent)
        assert answer.startswith(b"HTTP/1.1 408")
        assert 0.9 < time.monotonic() - begin < 5

    def test_one_that_comes_a_byte_at_a_time_is_not_either(self, stage: Stage) -> None:
        stage.serve(limits=self.LIMITS)
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
        stage.serve(limits=self.LIMITS)
        answer = raw(stage.port, request(b"12345", *lines, length=False), seconds=5)
        assert re.match(rb"HTTP/1\.1 (400|408|413|501) ", answer), answer
        assert stage.texts == []

    def test_big_ones_wait_for_each_other_and_small_ones_pass(self, stage: Stage) -> None:
        limits = Limits(
            body_bytes=8 << 20, small_bytes=1 << 16, big_at_once=1, read_seconds=10, refusal_grid=0.0
        )
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
            until(lambda: stage.app.state.receiver._under_way == 1)
        until(lambda: stage.app.state.receiver._under_way == 0)
        assert stage.call(push()).status_code == 202


class TestConnections:
    """Headers that do not come."""

    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)

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
        begin = time.monotonic()
        assert raw(stage.port, *parts, pause=0.1) == b""
        assert time.monotonic() - begin < 8

    def test_also_in_the_second_request_of_a_connection(self, stage: Stage) -> None:
        stage.serve()
        first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        begin = time.monotonic()
        answer = raw(stage.port, first, b"POST /hooks/git HTTP/1.1\r\n", pause=0.2)
        assert answer.count(b"HTTP/1.1") == 1
        assert time.monotonic() - begin < 5

    def test_a_slow_body_is_no_slow_header(self, stage: Stage) -> None:
        stage.serve()
        body = push()
        head = request(
            b"",
            *[f"{k}: {v}" for k, v in headers(body).items()],
            f"Content-Length: {len(body)}",
            length=False,
        )
        assert raw(stage.port, head, body[:10], body[10:], pause=0.8).startswith(b"HTTP/1.1 202")

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


def until(condition: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


class TestRates:
    """Who asks too much."""

    def test_too_many_at_once_are_told_to_come_back(self, stage: Stage) -> None:
        stage.serve(limits=Limits(requests_at_once=2, refusal_grid=0.0))
        with ExitStack() as held:
            for _ in range(2):
                slow = held.enter_context(socket.create_connection(("127.0.0.1", stage.port)))
                slow.sendall(request(b"", "Content-Length: 100", length=False))
            until(lambda: stage.app.state.receiver._under_way == 2)
            answer = stage.call(push())
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        until(lambda: stage.app.state.receiver._under_way == 0)
        assert stage.call(push()).status_code == 202

    def test_a_source_has_its_rate(self, stage: Stage) -> None:
        limits = Limits(route_rate=0.01, route_burst=3, refusal_grid=0.0)
        stage.serve({"git": route(), "other": route()}, limits)
        assert [stage.call(push(n)).status_code for n in range(4)] == [202, 202, 202, 429]
        answer = stage.call(push(5))
        assert int(answer.headers["retry-after"]) > 10
        assert stage.call(push(6), "/hooks/other").status_code == 202

    def test_nobody_else_uses_up_the_rate_of_a_source(self, stage: Stage) -> None:
        stage.serve(limits=Limits(route_rate=0.01, route_burst=1, refusal_grid=0.0, refused_burst=100))
        for _ in range(20):
            stage.http.post("/hooks/git", content=b"{}")
        assert stage.call(push()).status_code == 202

    def test_an_address_that_is_refused_again_and_again_is_not_looked_at(self, stage: Stage) -> None:
        stage.serve(limits=Limits(refused_rate=0.01, refused_burst=3, refusal_grid=0.0))
        found = [stage.http.post("/hooks/git", content=b"{}").status_code for _ in range(5)]
        assert found == [401, 401, 401, 429, 429]

    def test_buckets(self) -> None:
        now = 0.0
        buckets = Buckets(0.5, 2, most=3, clock=lambda: now)
        assert [buckets.take("a") for _ in range(3)] == [0, 0, 2]
        now = 1.0
        assert (buckets.take("a"), buckets.wait("a")) == (1, 1)
        now = 2.0
        assert (buckets.wait("a"), buckets.take("a"), buckets.wait("a")) == (0, 0, 2)
        for key in range(1000):
            buckets.take(str(key))
        assert len(buckets) == 3
        now = 1e6
        assert [buckets.take("a") for _ in range(3)] == [0, 0, 2]

    @pytest.mark.parametrize(
        ("address", "whole"),
        [
            ("10.1.2.3", "10.1.2.3"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("x" * 100, "x" * 64),
        ],
    )
    def test_a_customer_is_one(self, address: str, whole: str) -> None:
        assert neighbourhood(address) == whole


class TestLog:
    """Enough to mend it, nothing that helps an attacker, no flood."""

    def test_no_secret_and_no_order_to_a_terminal(self, stage: Stage) -> None:
        stage.serve()
        body = push("\x1b[2J\u202eevil\nline")
        stage.call(body, f"/hooks/git?code={SECRET}")
        stage.http.post(f"/hooks/a%1b%5b2Jb%0ac?token={SECRET}", content=b"x")
        stage.http.post("/hooks/git", content=b"x", headers={b"X-Hub-Signature-256": b"sha256=\x85"})
        assert len(stage.lines) == 3
        for line in stage.lines:
            assert line.isprintable(), line
            assert SECRET not in line

    def test_repeated_refusals_are_counted_not_written(self, stage: Stage) -> None:
        stage.serve()
        for _ in range(50):
            stage.http.post("/hooks/git", content=b"{}")
        assert len(stage.lines) == 5
        stage.app.state.receiver.refusals.flush()
        assert stage.lines[5] == "refused 45 more: 401 git from 127.0.0.1"
        stage.call(push())
        assert stage.lines[6].startswith("202 accepted")

    def test_a_thousand_names_are_no_flood_either(self) -> None:
        lines: list[str] = []
        refusals = Refusals(lines.append)
        for number in range(5000):
            refusals.add(f"kind {number}", f"line {number}")
        assert len(lines) <= 101
        refusals.flush()
        assert len(lines) <= 113
        assert sum(int(line.split()[1]) for line in lines if line.startswith("refused")) >= 4890


class Changing:
    """Routes that somebody changes elsewhere."""

    def __init__(self) -> None:
        self.saved: dict[str, WebhookSettings] = {}
        self.known: dict[str, WebhookSettings] = {}
        self.looked = 0

    def get(self, name: str, /) -> WebhookSettings | None:
        return self.known.get(name)

    def renew(self) -> bool:
        self.looked += 1
        self.known = dict(self.saved)
        return True


def test_a_route_and_a_secret_that_were_saved_a_moment_ago_are_looked_up(stage: Stage) -> None:
    routes = Changing()
    stage.serve(routes)
    assert stage.call(push()).status_code == 401
    routes.saved["git"] = route()
    assert stage.call(push()).status_code == 202
    routes.saved["git"] = route(secret="another secret, a long one")
    body = push(1)
    good = stage.http.post("/hooks/git", content=body, headers=headers(body, "another secret, a long one"))
    assert good.status_code == 202
    looked = routes.looked
    assert stage.call(push(2)).status_code == 401  # the old secret
    assert routes.looked == looked + 1


def test_many_at_once(stage: Stage) -> None:
    """Each is on disk once, whoever tells it how often."""
    stage.serve(limits=Limits(refusal_grid=0.0))
    begin = time.monotonic()
    lock = threading.Lock()
    statuses: list[int] = []

    def tell(numbers: range) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{stage.port}", timeout=30) as http:
            for number in numbers:
                body = push(number % 200)
                status = http.post("/hooks/git", content=body, headers=headers(body)).status_code
                with lock:
                    statuses.append(status)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tell, [range(at * 100, at * 100 + 100) for at in range(8)]))
    seconds = time.monotonic() - begin
    print(f"800 requests in {seconds:.1f} s, {800 / seconds:.0f}/s, client included")  # noqa: T201
    assert statuses == [202] * 800
    assert len(stage.texts) == len(set(stage.texts)) == 200


def test_hints_of_one_request_are_kept_together(stage: Stage) -> None:
    hints = tuple(Hint(key=f"k{number}", text=f"blob {number}") for number in range(5))
    stage.serve(made=Made(Reading(hints=hints)))
    assert stage.http.post("/hooks/git").status_code == 202
    assert len(stage.texts) == 5
    assert "blob 0; blob 1; blob 2 and 2 more" in stage.lines[0]
