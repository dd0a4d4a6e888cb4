"""Which sources may call: the `webhook-source` blocks of the Prefect server, or a file.

The server may be away when a webhook arrives, also after the receiver was started again: the last known
routes go on. They are kept in the inbox's folder, in a file only its owner can read. It holds nothing that
this owner could not ask the server for, whose password lies beside it.
"""

import json
import os
import threading
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from linkspan.errors import ConfigError, LinkspanError, ServerUnavailable
from linkspan.prefect_api.server import Server
from linkspan.prefect_api.values import settings_from
from linkspan.webhooks.base import BLOCK, WebhookSettings
from linkspan.webhooks.providers.register import ALL, known

REFRESH_SECONDS = 30.0
LEAST_SECONDS = 3.0
FIRST_SECONDS = 5.0
# Nobody waits longer for somebody else's look: the server may be slow, and threads are few.
TURN_SECONDS = 1.0

Fields = Mapping[str, Mapping[str, Any]]
"""Name → fields, secrets in plain."""


class SavedRoutes:
    """The routes that `fetch` gives, asked for again and again by a thread; `changed` hears when they differ.

    `fetch` raises LinkspanError when it cannot tell; then the last known ones go on. `cache` is where those
    survive a restart.
    """

    def __init__(
        self,
        fetch: Callable[[], Fields],
        *,
        cache: Path | None = None,
        say: Callable[[str], None] = lambda _line: None,
        changed: Callable[[Mapping[str, WebhookSettings]], None] = lambda _routes: None,
    ) -> None:
        self._fetch = fetch
        self._cache = cache
        self._say = say
        self._changed = changed
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._first = threading.Event()
        self._looked = float("-inf")
        self._trouble = ""
        self._fields: Fields | None = None
        self._routes: dict[str, WebhookSettings] = {}
        self._thread = threading.Thread(target=self._keep_fresh, name="routes", daemon=True)

    def start(self) -> None:
        """Take what was known last, look for what is new, and keep looking.

        Waits a little for the first answer: whoever calls in the first moment shall not be a stranger.
        """
        if self._cache and (known := _read_cache(self._cache, self._say)) is not None:
            self._take(known)
        self._thread.start()
        self._first.wait(FIRST_SECONDS)

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(20)

    def get(self, name: str, /) -> WebhookSettings | None:
        return self._routes.get(name)

    def renew(self) -> bool:
        """Look now, unless that was done within the last seconds; whether it was looked since the call."""
        asked = time.monotonic()
        if not self._lock.acquire(timeout=TURN_SECONDS):
            return False
        try:
            if self._looked < asked - LEAST_SECONDS:
                self._look()
                self._first.set()
            return self._looked >= asked
        finally:
            self._lock.release()

    def _keep_fresh(self) -> None:
        while not self._stop.is_set():
            self.renew()
            self._stop.wait(REFRESH_SECONDS)

    def _look(self) -> None:
        try:
            fields = self._fetch()
        except LinkspanError as error:
            if self._trouble != error.what:
                self._say(
                    f"the routes cannot be looked up: {error}. The {len(self._routes)} known ones go on"
                )
            self._trouble = error.what
        else:
            self._trouble = ""
            if fields != self._fields:
                self._take(fields)
                if self._cache:
                    _write_cache(self._cache, fields, self._say)
        self._looked = time.monotonic()

    def _take(self, fields: Fields) -> None:
        routes = {}
        for name, values in fields.items():
            try:
                settings = settings_from(WebhookSettings, f"{BLOCK}/{name}", values)
                known(settings.provider, ALL)
                routes[name] = settings
            except ConfigError as error:
                self._say(f"the route {name} is not served: {error}")
        before, self._fields = self._fields, fields
        self._routes = routes
        if before is not None or routes:
            self._say(f"routes: {', '.join(sorted(routes)) or 'none'}")
        self._changed(routes)


def blocks_of(server: Callable[[], Server]) -> Callable[[], Fields]:
    """Asks a Prefect server for its `webhook-source` blocks."""

    def fetch() -> Fields:
        try:
            return server().blocks(BLOCK)
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError) as error:
            # A page of whatever stands in front of a server that is away. Its text is not repeated.
            reason = type(error).__name__
            raise ServerUnavailable(f"the answer of the Prefect server is none: {reason}") from None

    return fetch


def routes_in(file: Path) -> Callable[[], Fields]:
    """Reads a TOML or JSON file: a table for each route, with the fields of the block."""

    def fetch() -> Fields:
        try:
            text = file.read_bytes().decode()
            document = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            # An error of a parser may quote the line, and the line may hold a secret.
            reason = error.strerror if isinstance(error, OSError) else f"no {file.suffix or 'TOML'} in UTF-8"
            raise ConfigError(f"the routes in {file} cannot be read: {reason}") from None
        if not isinstance(document, dict) or not all(isinstance(each, dict) for each in document.values()):
            raise ConfigError(f"{file} holds no routes", expected="a table for each route")
        return document

    return fetch


def _read_cache(file: Path, say: Callable[[str], None]) -> Fields | None:
    try:
        document = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        say(f"{file}, the last known routes, cannot be read; they come from the server")
        return None
    good = isinstance(document, dict) and all(isinstance(each, dict) for each in document.values())
    return document if good else None


def _write_cache(file: Path, fields: Fields, say: Callable[[str], None]) -> None:
    """Replace the file at once, readable by its owner only from its first moment."""
    draft = file.with_suffix(".tmp")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            json.dump(fields, opened)
            opened.flush()
            os.fsync(opened.fileno())
        draft.replace(file)
    except OSError as error:
        say(f"the routes cannot be kept in {file}: {error.strerror}. They are known until a restart")
