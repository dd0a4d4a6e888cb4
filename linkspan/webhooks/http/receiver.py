"""The webhook receiver as an ASGI app: it believes nobody, keeps what is true, and answers at once.

Nothing here knows Prefect or waits for it: an accepted hint is in the inbox when its sender gets a 2xx. Who
is refused learns nothing: an unknown route and a wrong signature take the same time and get the same bare
401. The log says why.
"""

import asyncio
import hashlib
import hmac
import logging
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from linkspan.errors import InboxUnavailable, LinkspanError
from linkspan.plain_text import plain_text
from linkspan.webhooks.base import Provider, Reading, Request, WebhookSettings
from linkspan.webhooks.http.answers import Answer, later, response, to_grid, unavailable
from linkspan.webhooks.http.body import BodyReader, BodyRefused
from linkspan.webhooks.http.limits import Limits
from linkspan.webhooks.http.rate import Buckets, neighbourhood
from linkspan.webhooks.http.refusals import Refusals
from linkspan.webhooks.inbox.durable import Inbox
from linkspan.webhooks.providers.register import provider

LOG = logging.getLogger("linkspan.webhooks")
THREADS = 16


class Routes(Protocol):
    """The sources that may call, by name."""

    def get(self, name: str, /) -> WebhookSettings | None:
        """The settings as they are known now; must not block."""
        ...

    def renew(self) -> bool:
        """Look whether they have changed; False if that was done a moment ago. May block."""
        ...


def create_app(
    routes: Routes,
    inbox: Inbox,
    limits: Limits | None = None,
    *,
    providers: Callable[[str], Provider] = provider,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    lifespan: Callable[[Starlette], Any] | None = None,
) -> Starlette:
    """The app: `POST /hooks/<name>` (and OPTIONS, for handshakes), `GET /healthz`, `GET /readyz`.

    It may be mounted in or served by whatever serves ASGI. The inbox is the caller's to open and close.
    """
    receiver = Receiver(routes, inbox, limits or Limits(), providers, clock)
    app = Starlette(
        routes=[
            Route("/hooks/{name}", receiver.hook, methods=["POST", "OPTIONS"]),
            Route("/healthz", receiver.healthz, methods=["GET"]),
            Route("/readyz", receiver.readyz, methods=["GET"]),
        ],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.receiver = receiver
    return app


class Receiver:
    """The handlers, and what they count."""

    def __init__(
        self,
        routes: Routes,
        inbox: Inbox,
        limits: Limits,
        providers: Callable[[str], Provider],
        clock: Callable[[], datetime],
    ) -> None:
        self._routes = routes
        self._inbox = inbox
        self._limits = limits
        self._providers = providers
        self._clock = clock
        self._bodies = BodyReader(limits)
        self._under_way: Counter[str] = Counter()
        self._refused = Buckets(limits.refused_rate, limits.refused_burst)
        self._accepted = Buckets(limits.route_rate, limits.route_burst)
        self.refusals = Refusals(LOG.warning)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="verify")
        self._nobody = secrets.token_bytes(32)
        self._ready: tuple[float, bool] = (-math.inf, False)

    async def healthz(self, _request: HttpRequest) -> Response:
        """The process lives."""
        return PlainTextResponse("ok")

    async def readyz(self, _request: HttpRequest) -> Response:
        """The inbox can be written; asked at most once a second."""
        at, ready = self._ready
        if time.monotonic() - at > 1:
            try:
                await asyncio.wait_for(asyncio.wrap_future(self._inbox.beat()), self._limits.disk_seconds)
                ready = True
            except (InboxUnavailable, TimeoutError):
                ready = False
            self._ready = (time.monotonic(), ready)
        return PlainTextResponse(
            "ready" if ready else "the inbox cannot be written", status_code=200 if ready else 503
        )

    async def hook(self, request: HttpRequest) -> Response:
        """One call of a source."""
        begin = time.monotonic()
        client = request.client.host if request.client else "unknown"
        name = request.path_params["name"]
        whose = neighbourhood(client)
        self._under_way[whose] += 1
        try:
            answer = await self._answer(request, name, whose)
        except Exception:
            # No 500: nobody shall see a mistake of ours from outside, and whoever is honest tries again.
            LOG.exception("a mistake in Linkspan")
            answer = Answer(503, "not accepted", "a mistake in Linkspan", headers={"Retry-After": "60"})
        finally:
            self._under_way -= Counter([whose])  # and forgets those with none
        self._log(answer, name, client)
        if answer.status in {401, 429}:
            await asyncio.sleep(to_grid(time.monotonic() - begin, self._limits.refusal_grid))
        return response(answer)

    async def _answer(self, request: HttpRequest, name: str, client: str) -> Answer:
        if self._under_way.total() > self._limits.requests_at_once:
            return later(503, 1, "too many requests at once")
        if self._under_way[client] > self._limits.address_at_once:
            return later(503, 1, "too many requests of this address at once")
        try:
            if len(request.scope["path"]) + len(request.scope["query_string"]) > self._limits.url_bytes:
                raise BodyRefused(414, "its URL is too long")
            body = await self._bodies.read(request, briefly=self._refused.wait(client) > 0)
        except BodyRefused as refused:
            self._refused.take(client)
            close = {"Connection": "close"} | ({"Retry-After": "5"} if refused.status == 503 else {})
            return Answer(refused.status, "refused", refused.reason, headers=close)
        return await self._believe(_request(request, body, self._clock()), name, client)

    async def _believe(self, asked: Request, name: str, client: str) -> Answer:
        found = await self._thread(self._examine, name, asked)
        # A block may have been saved, or its secret changed, a moment ago: look, whatever was wrong.
        if isinstance(found, Answer) and found.status == 401 and await self._thread(self._routes.renew):
            found = await self._thread(self._examine, name, asked)
        if isinstance(found, Answer):
            # Only here: an honest sender may have its address in common with others, behind a proxy.
            if found.status == 401 and (wait := self._refused.take(client)):
                return later(429, wait, "too many requests of this address were refused")
            return found
        if wait := self._accepted.take(name):
            return later(429, wait, "more requests than this source may send")
        return await self._keep(name, *found)

    async def _thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        # Some verifications wait for others: SNS fetches a certificate.
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def _examine(self, name: str, request: Request) -> tuple[WebhookSettings, Reading] | Answer:
        """Verify and read, in a thread."""
        settings = self._routes.get(name)
        if settings is None:
            # The work of a signature, as for a name that is there.
            hmac.new(self._nobody, request.body, hashlib.sha256).hexdigest()
            return Answer(401, "refused", "there is no such route")
        refused = Answer(401, "refused")
        try:
            rules = self._providers(settings.provider)
            rules.verify(request, settings)
            refused = Answer(400, "not understood")
            return settings, rules.read(request, settings)
        except LinkspanError as error:
            # Such as a certificate that cannot be had now.
            return unavailable(error) if error.retriable else replace(refused, detail=str(error))

    async def _keep(self, name: str, settings: WebhookSettings, reading: Reading) -> Answer:
        word, detail = "ignored", reading.ignored
        if reading.hints:
            kept = self._inbox.put(name, settings.start, reading.hints, self._clock())
            try:
                new = await asyncio.wait_for(asyncio.wrap_future(kept), self._limits.disk_seconds)
            except InboxUnavailable as error:
                return unavailable(error)
            except TimeoutError:
                return later(503, 10, "the inbox's disk does not answer")
            word = "accepted" if new else "known"
            texts = [hint.text for hint in new or reading.hints]
            detail = "; ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")
            detail += f" → {', '.join(settings.start)}" if new else ""
        asked_for = reading.reply is not None or bool(reading.reply_headers)
        return Answer(
            200 if asked_for else 202, word, detail, reply=reading.reply, headers=reading.reply_headers
        )

    def _log(self, answer: Answer, name: str, client: str) -> None:
        source, detail = plain_text(name)[:100], plain_text(answer.detail)[:600]
        line = f"{answer.status} {answer.word} {source} from {client}: {detail}"
        if answer.status < 400:
            LOG.info(line)
        else:
            self.refusals.add(f"{answer.status} {source} from {client}", line)


def _request(request: HttpRequest, body: bytes, received: datetime) -> Request:
    try:
        query = parse_qsl(
            request.scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=50
        )
    except ValueError:  # too many fields: none of them is a secret of ours
        query = []
    return Request(
        method=request.method,
        path=request.scope["path"],
        query=tuple(query),
        headers=tuple(
            (key.decode("latin-1").lower(), value.decode("latin-1")) for key, value in request.headers.raw
        ),
        body=body,
        received=received,
    )
