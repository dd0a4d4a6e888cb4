"""The receiver over real sockets: what it believes, what it keeps, and what it tells to whom."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from linkspan.errors import WebhookRefused, WebhookUnchecked
from linkspan.webhooks.base import Hint, Reading, WebhookSettings
from linkspan.webhooks.http.answers import to_grid
from tests.waiting import until
from tests.webhooks.serving import headers, push, route
from tests.webhooks.stage import Made, Stage, patient


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


@pytest.mark.calm
def test_refusals_take_the_same_time(stage: Stage) -> None:
    stage.serve(limits=patient(refused_burst=1e9, refusal_grid=0.05))
    body = push(more="x" * 900_000)

    least = {"/hooks/git": math.inf, "/hooks/unknown": math.inf}

    def alike() -> bool:
        for path in [*least] * 9:
            begin = time.monotonic()
            assert stage.http.post(path, content=body).status_code == 401
            least[path] = min(least[path], time.monotonic() - begin)
        # Without the grid a big body's signature shows; the least of many is what an idle machine takes.
        known, unknown = least.values()
        return abs(known - unknown) < 0.04

    until(alike, what="the same time for both")
    assert min(least.values()) >= 0.05


@pytest.mark.parametrize(("seconds", "wait"), [(0.0, 0.0), (0.01, 0.04), (0.05, 0.0), (0.06, 0.04)])
def test_refusals_are_answered_at_multiples_of_the_grid(seconds: float, wait: float) -> None:
    assert to_grid(seconds, 0.05) == pytest.approx(wait, abs=1e-9)
    assert to_grid(seconds, 0.0) == 0


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


@pytest.mark.slow
def test_many_at_once(stage: Stage) -> None:
    """Each is on disk once, whoever tells it how often."""
    stage.serve(limits=patient())
    begin = time.monotonic()
    lock = threading.Lock()
    statuses: list[int] = []

    def tell(numbers: range) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{stage.port}", timeout=120) as http:
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
