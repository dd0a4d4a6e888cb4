"""What a server refuses for a moment is asked again by itself, and everything else passes as it is."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from linkspan.local import again
from linkspan.local.again import Again, Message, Receive, Send

SCOPE = {"type": "http", "method": "POST", "path": "/"}
BODY: list[Message] = [
    {"type": "http.request", "body": b"one ", "more_body": True},
    {"type": "http.request", "body": b"two", "more_body": False},
]


class Server:
    """Answers with these, one after the other, and notes what it was asked."""

    def __init__(self, *answers: int, raises: bool = False) -> None:
        self.answers = list(answers)
        self.raises = raises
        self.asked: list[bytes] = []

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        scope["path"] += "changed"  # as routers do
        assert scope["path"] == "/changed"
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        self.asked.append(body + message["body"])
        status = self.answers.pop(0)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % status, "more_body": False})
        if self.raises and status >= 500:
            raise RuntimeError("database is locked")


async def ask(server: Server, body: list[Message] = BODY) -> list[Any]:
    """What the client gets: status and bodies."""
    got: list[Any] = []
    left = list(body)

    async def receive() -> Message:
        return left.pop(0)

    async def send(message: Message) -> None:
        got.append(message.get("status", message.get("body")))

    await Again(server)(dict(SCOPE), receive, send)
    return got


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "PAUSES", (0.0, 0.0))


@pytest.mark.parametrize("raises", [False, True])
def test_what_is_refused_for_a_moment_is_asked_again_with_the_same_body(raises: bool) -> None:
    server = Server(503, 503, 201, raises=raises)
    assert asyncio.run(ask(server)) == [201, b"201"]
    assert server.asked == [b"one two"] * 3


@pytest.mark.parametrize("status", [200, 404, 409, 500, 502])
def test_everything_else_passes_as_it_is(status: int) -> None:
    server = Server(status)
    assert asyncio.run(ask(server)) == [status, b"%d" % status]
    assert len(server.asked) == 1


def test_who_is_refused_for_long_hears_it() -> None:
    server = Server(*[503] * 5)
    assert asyncio.run(ask(server)) == [503, b"503"]
    assert len(server.asked) == 5


class Snapshots:
    """As SQLite has it: who reads, and finds when it writes that another one wrote, is refused."""

    def __init__(self) -> None:
        self.writes = 0
        self.refused = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        before = self.writes
        for _ in range(40 if scope["path"] == "/slow" else 1):
            await asyncio.sleep(0)
        ours = scope["method"] == "GET" or self.writes == before
        self.writes += scope["method"] != "GET" and ours
        self.refused += not ours
        await send({"type": "http.response.start", "status": 200 if ours else 503, "headers": []})


def test_who_is_refused_again_and_again_is_made_alone_and_readers_do_not_wait_for_it() -> None:
    async def main() -> None:
        app = Snapshots()
        server, done = Again(app), asyncio.Event()
        answered: list[tuple[str, str, int]] = []

        async def one(method: str, path: str) -> int:
            body = [{"type": "http.request", "body": b"", "more_body": False}]

            async def receive() -> Message:
                return body.pop()

            async def send(message: Message) -> None:
                answered.append((method, path, message["status"]))

            await server({"type": "http", "method": method, "path": path}, receive, send)
            return int(answered[-1][2])

        async def often(method: str) -> None:
            while not done.is_set():
                await one(method, "/quick")
                await asyncio.sleep(0)

        others = [asyncio.create_task(often("POST")), asyncio.create_task(often("GET"))]
        slow = [asyncio.create_task(one("PATCH", "/slow")) for _ in range(5)]
        assert [await each for each in slow] == [200] * 5
        done.set()
        await asyncio.gather(*others)
        assert app.refused >= 5, "they were in each other's way"
        assert {status for _, _, status in answered} == {200}
        first, last = (
            each([at for at, (_, path, _) in enumerate(answered) if path == "/slow"]) for each in (min, max)
        )
        assert any(method == "GET" for method, _, _ in answered[first:last])

    asyncio.run(main())


def test_what_is_refused_after_a_long_wait_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client may have gone meanwhile, and asked once more itself."""
    monkeypatch.setattr(again, "SOON", 0.0)
    server = Server(503)
    assert asyncio.run(ask(server)) == [503, b"503"]
    assert len(server.asked) == 1


def test_an_error_that_is_no_refusal_is_not_hidden() -> None:
    server = Server(500, raises=True)
    with pytest.raises(RuntimeError, match="locked"):
        asyncio.run(ask(server))
    with pytest.raises(RuntimeError, match="locked"):
        asyncio.run(ask(Server(*[503] * 5, raises=True)))


def test_a_body_too_big_to_keep_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "MOST_BYTES", 3)
    server = Server(503)
    assert asyncio.run(ask(server)) == [503, b"503"]
    assert server.asked == [b"one two"]


def test_web_sockets_pass() -> None:
    seen: list[str] = []

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del receive, send
        seen.append(scope["type"])

    async def nothing(*_: object) -> Any:
        raise AssertionError

    asyncio.run(Again(app)({"type": "websocket"}, nothing, nothing))
    assert seen == ["websocket"]
