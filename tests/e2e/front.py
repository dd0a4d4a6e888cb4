"""A proxy before the real registry that counts what passes, and can be told to fail in its place."""

from collections.abc import Callable
from typing import NamedTuple

from tests.services.registry import CountingProxy, Exchange, _Forward, _Server

Fault = Callable[[str, str], int]
"""Gives the status to answer a request (method, path) with; 0 lets it pass."""


class Asked(NamedTuple):
    """A request and who made it: `linkspan`, or Docker Engine's long name."""

    method: str
    path: str
    agent: str


class FaultyProxy(CountingProxy):
    """`fail` makes requests fail; `of` gives what one repository saw, `asked` who asked for what."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self._server.server_close()
        self._faulty = _FaultyServer(("127.0.0.1", 0), _Faulty)
        self._faulty.upstream = upstream
        self._faulty.exchanges = self.exchanges
        self._server = self._faulty
        self.asked: list[Asked] = []
        self._faulty.asked = self.asked
        self._thread._target = self._server.serve_forever  # type: ignore[attr-defined]

    def fail(self, fault: Fault | None) -> None:
        self._faulty.fault = fault

    def of(self, app: str) -> list[Exchange]:
        return [each for each in list(self.exchanges) if f"/v2/{app}/" in each.path]

    def reset(self) -> None:
        super().reset()
        self.asked.clear()

    def sent_to(self, app: str) -> int:
        return sum(each.sent for each in self.of(app))


class _FaultyServer(_Server):
    fault: Fault | None = None
    asked: list[Asked]


class _Faulty(_Forward):
    server: _FaultyServer

    def _forward(self) -> None:
        self.server.asked.append(Asked(self.command, self.path, self.headers.get("User-Agent", "")))
        fault = self.server.fault
        status = fault(self.command, self.path) if fault else 0
        if not status:
            super()._forward()
            return
        sent = sum(len(chunk) for chunk in self._body("chunked" in self.headers.get("Transfer-Encoding", "")))
        self.server.exchanges.append(Exchange(self.command, self.path, status, sent, 0))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815
