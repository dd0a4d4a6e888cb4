"""The Prefect server as it is known now: `linkspan up` may be started after the receiver, or elsewhere."""

import threading
import time
from collections.abc import Callable

from linkspan.errors import ConfigError, ServerUnavailable
from linkspan.local.known import known_server
from linkspan.prefect_api.server import Server

LOOK_SECONDS = 5.0
# The same server may have another password since.
KEEP_SECONDS = 60.0


class KnownServer:
    """Gives the server that `find` finds, and looks again every few seconds whether it is another one."""

    def __init__(self, find: Callable[[], Server] = known_server) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._server: Server | None = None
        self._looked = self._found = float("-inf")
        self._reason = ""

    def __call__(self) -> Server:
        """The server. Raises ServerUnavailable while none is known."""
        with self._lock:
            if time.monotonic() - self._looked > LOOK_SECONDS:
                self._look()
            if self._server is None:
                raise ServerUnavailable(self._reason)
            return self._server

    def close(self) -> None:
        """Close its connections."""
        with self._lock:
            if self._server is not None:
                self._server.close()
                self._server = None

    def _look(self) -> None:
        try:
            found = self._find()
        except ConfigError as error:
            # What was known may come back to where it was.
            self._reason = str(error)
        else:
            old = time.monotonic() - self._found > KEEP_SECONDS
            if self._server is None or self._server.api_url != found.api_url or old:
                # The one before is not closed: others may be in the middle of a call.
                self._server, self._found = found, time.monotonic()
            else:
                found.close()
        self._looked = time.monotonic()
