"""A Prefect server asks its database again, before it tells a client to.

SQLite refuses a transaction that began by reading if another one wrote meanwhile, at once and without waiting
(SQLITE_BUSY_SNAPSHOT). Prefect's server answers 503 then, by which it says that the client may come again;
which that does after 2 s, then 4, then 8: a release stood still for seconds in the middle of nothing. Here
the request is made again in the server, some hundredths of a second later; and where others keep writing in
between, as the runs of ten apps do, at last alone: what comes meanwhile waits until it is done.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

# ASGI 3 (asgi.readthedocs.io, specs/main and specs/www): the messages are dicts of its own making.
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

PAUSES = (0.02, 0.05, 0.1, 0.2)
"""Seconds before each further try, among others and then alone. After the last one its client hears it."""
SOON = 10.0
"""Seconds in which all tries begin: what is refused after a long wait is another trouble, and passes."""
MOST_BYTES = 1 << 20
"""Of a request's body, that is kept to be made again."""
_AGAIN = 503
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Again:
    """An ASGI app whose requests are made again if it answers 503."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._alone = asyncio.Lock()
        """Held by a request that is made alone: none that may write begins meanwhile."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, whole = await _body(receive)
        if not whole:
            await self._app(scope, _from(body, receive), send)
            return
        end = time.monotonic() + SOON
        for pause in PAUSES:
            if scope["method"] not in _READING:
                async with self._alone:
                    pass
            if not await self._refused(scope, _from(body, receive), send, end):
                return
            await asyncio.sleep(pause)
        async with self._alone:
            for pause in PAUSES:
                if not await self._refused(scope, _from(body, receive), send, end):
                    return
                await asyncio.sleep(pause)
            await self._app(scope, _from(body, receive), send)

    async def _refused(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, end: float
    ) -> bool:
        """Whether it was refused before `end`, by the monotonic clock, so that nothing was sent."""
        refused = False

        async def passed(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == _AGAIN:
                refused = time.monotonic() < end
            if not refused:
                await send(message)

        try:
            await self._app(dict(scope), receive, passed)
        except Exception:
            if not refused:  # Starlette raises what it has answered once more, for the log
                raise
        return refused


async def _body(receive: Receive) -> tuple[list[Message], bool]:
    """The messages of a request's body; False if there are more than may be kept."""
    messages: list[Message] = []
    size = 0
    while size <= MOST_BYTES:
        messages.append(await receive())
        size += len(messages[-1].get("body", b""))
        if not messages[-1].get("more_body", False):
            return messages, True
    return messages, False


def _from(kept: list[Message], receive: Receive) -> Receive:
    """Gives what was kept once more, then what comes after it."""
    rest = iter(kept)

    async def message() -> Message:
        for each in rest:
            return dict(each)
        return await receive()

    return message
