"""The receiver as a service: inbox, routes, queues and starter opened in order and closed in reverse.

`linkspan serve` runs it under uvicorn. Another ASGI server takes the factory, with one worker process:
`uvicorn linkspan.webhooks.serve:app --factory`.
"""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from starlette.applications import Starlette

from linkspan.errors import ConfigError, InboxUnavailable
from linkspan.local.home import Home
from linkspan.local.wake import wake
from linkspan.webhooks.http.known_server import KnownServer
from linkspan.webhooks.http.limits import Limits
from linkspan.webhooks.http.rate import Buckets
from linkspan.webhooks.http.receiver import LOG, create_app
from linkspan.webhooks.http.routes import SavedRoutes, blocks_of, routes_in
from linkspan.webhooks.inbox.durable import Inbox
from linkspan.webhooks.inbox.starter import GATHER_SECONDS, Starter
from linkspan.webhooks.queues.readers import Queues

ROUTES_CACHE = "routes.json"
FLUSH_SECONDS = 60.0
FORGET_EVERY = 60
"""Flushes of the log between two looks for hints to forget: an hour."""
CONNECTIONS = 1000
HEADER_BYTES = 16 << 10
END_SECONDS = 10


@dataclass(frozen=True)
class ServeSettings:
    """How the receiver is served. `routes_file` replaces the blocks of the Prefect server."""

    inbox: Path
    routes_file: Path | None = None
    limits: Limits = field(default_factory=Limits)
    gather: float = GATHER_SECONDS

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "ServeSettings":
        """LINKSPAN_INBOX (default: a folder in the home of `linkspan up`) and LINKSPAN_ROUTES."""
        env = os.environ if environment is None else environment
        routes = env.get("LINKSPAN_ROUTES")
        inbox = Path(env["LINKSPAN_INBOX"]) if env.get("LINKSPAN_INBOX") else default_inbox(env)
        return cls(inbox=inbox, routes_file=Path(routes) if routes else None)


def default_inbox(environment: Mapping[str, str] | None = None) -> Path:
    """The inbox's folder where none is named, in a home that only its owner can enter."""
    home = Home.default(environment)
    home.create()
    return home.inbox


def app(settings: ServeSettings | None = None) -> Starlette:
    """The ASGI app with all that belongs to it, open from its lifespan's start-up to its end.

    Raises ConfigError if the inbox or the file of routes cannot be opened.
    """
    settings = settings or ServeSettings.from_environment()
    with ExitStack() as opened:
        server = KnownServer()
        opened.callback(server.close)
        inbox = opened.enter_context(Inbox(settings.inbox, say=LOG.warning))
        queues = Queues(inbox, LOG.info)
        routes = _routes(settings, server, queues)
        starter = Starter(inbox, server, say=LOG.info, started=wake, gather=settings.gather)
        held = opened.pop_all()

    @asynccontextmanager
    async def lifespan(made: Starlette) -> AsyncIterator[None]:
        with held:
            held.callback(queues.stop)
            held.callback(routes.stop)
            held.enter_context(starter)
            routes.start()
            held.enter_context(_housekeeping(inbox, made))
            yield

    return create_app(routes, inbox, settings.limits, lifespan=lifespan)


def run(settings: ServeSettings, host: str, port: int, *, proxies: str = "") -> None:
    """Serve until SIGTERM or SIGINT; then finish what was begun, and return.

    `proxies` are the addresses of proxies whose X-Forwarded-For is believed, separated by commas. Raises
    ConfigError if the port is taken or something cannot be opened.
    """
    import uvicorn

    from linkspan.webhooks.http.connections import PromptConnection

    log_to_stderr()
    with _listening(host, port) as listener, _quiet_end():
        config = uvicorn.Config(
            app(settings),
            http=PromptConnection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies or None,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=END_SECONDS,
            limit_concurrency=CONNECTIONS,
            h11_max_incomplete_event_size=HEADER_BYTES,
        )
        LOG.info("listening on http://%s:%d/hooks/", host, listener.getsockname()[1])
        uvicorn.Server(config).run(sockets=[listener])
        LOG.info("stopped; hints that wait are started next time")


def log_to_stderr() -> None:
    """One readable line for each thing; of uvicorn what is wrong, and not more than a person reads."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    LOG.setLevel(logging.INFO)
    LOG.addHandler(handler)
    LOG.propagate = False
    uvicorn_log = logging.getLogger("uvicorn.error")
    uvicorn_log.setLevel(logging.WARNING)
    uvicorn_log.addHandler(handler)
    # "Invalid HTTP request received." may be sent by anybody, as often as they like.
    some = Buckets(1 / 60, 10)
    uvicorn_log.addFilter(lambda record: record.levelno > logging.WARNING or not some.take(record.msg))


def _routes(settings: ServeSettings, server: KnownServer, queues: Queues) -> SavedRoutes:
    if settings.routes_file is None:
        cache = settings.inbox / ROUTES_CACHE
        return SavedRoutes(blocks_of(server), cache=cache, say=LOG.info, changed=queues.follow)
    fetch = routes_in(settings.routes_file)
    fetch()  # a mistake in it is said before anything is served
    return SavedRoutes(fetch, say=LOG.info, changed=queues.follow)


@contextmanager
def _housekeeping(inbox: Inbox, made: Starlette) -> Iterator[None]:
    stop = threading.Event()

    def work() -> None:
        beats = 0
        while not stop.wait(FLUSH_SECONDS):
            made.state.receiver.refusals.flush()
            if beats % FORGET_EVERY == 0:
                _forget(inbox)
            beats += 1

    thread = threading.Thread(target=work, name="housekeeping", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
        made.state.receiver.refusals.flush()


def _forget(inbox: Inbox) -> None:
    try:
        while inbox.forget().result(FLUSH_SECONDS):
            pass  # some thousands at a time, so that hints need not wait
    except (InboxUnavailable, TimeoutError) as error:
        LOG.warning("old hints cannot be removed: %s", error)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"the receiver cannot listen on {host}, port {port}: {error.strerror}",
            fix="Choose another with --host and --port",
        ) from None
    with listener:
        yield listener


@contextmanager
def _quiet_end() -> Iterator[None]:
    """uvicorn ends well at a signal, then raises it once more: for us it was heard."""

    def heard(_number: int, _frame: FrameType | None) -> None:
        LOG.info("stopping")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
