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
    monkeypatch.setattr(again, "PAUSES", (0.0, 0.0, 0.0))


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
    server = Server(503, 503, 503, 503)
    assert asyncio.run(ask(server)) == [503, b"503"]
    assert len(server.asked) == 4


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
        asyncio.run(ask(Server(503, 503, 503, 503, raises=True)))


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
