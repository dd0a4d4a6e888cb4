"""A receiver under a real server, its inbox and its log."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from linkspan.tls import trusted
from linkspan.webhooks.base import Provider, Reading, Request, WebhookSettings
from linkspan.webhooks.http.limits import Limits
from linkspan.webhooks.http.receiver import Routes, create_app
from linkspan.webhooks.inbox.durable import Inbox
from linkspan.webhooks.inbox.file import recent
from linkspan.webhooks.providers.register import provider
from tests.webhooks.serving import headers, route, served


def patient(**limits: Any) -> Limits:
    """For a machine that may stand still, and no grid: limits of which only those that are given run out."""
    return Limits(**{"read_seconds": 600.0, "disk_seconds": 600.0, "refusal_grid": 0.0, **limits})


QUICK = patient(refused_burst=1e9)


_GIT = MappingProxyType({"git": route()})


class FixedRoutes(dict[str, WebhookSettings]):
    """Routes that do not change."""

    def renew(self) -> bool:
        return False


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
        routes: Routes | Mapping[str, WebhookSettings] = _GIT,
        limits: Limits = QUICK,
        made: Provider | None = None,
    ) -> httpx.Client:
        self.app: Starlette = create_app(
            FixedRoutes(routes) if isinstance(routes, Mapping) else routes,
            self.inbox,
            limits,
            providers=(lambda _name: made) if made else provider,
        )
        self.port = self._held.enter_context(served(self.app))
        url = f"http://127.0.0.1:{self.port}"
        self.http = self._held.enter_context(httpx.Client(base_url=url, timeout=120, verify=trusted()))
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
