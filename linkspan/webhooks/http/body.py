"""A request's body, read within limits of size and time."""

import asyncio

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest

from linkspan.webhooks.http.limits import Limits


class BodyRefused(Exception):
    """The body was not read; `status` is what to answer, `reason` what to log."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(reason)


class BodyReader:
    """Reads bodies; not more than a few big ones at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._big = 0

    async def read(self, request: HttpRequest, *, briefly: bool = False) -> bytes:
        """The whole body. Raises BodyRefused: 400, 408, 413, or 503 where there is no room now.

        `briefly`: only if it is small and comes soon, for a client that was refused again and again.
        """
        self._check_length(request)
        body = bytearray()
        big = False
        seconds = self._limits.read_seconds / (5 if briefly else 1)
        try:
            async with asyncio.timeout(seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self._limits.body_bytes:
                        raise self._too_big()
                    if not big and len(body) > self._limits.small_bytes:
                        if briefly or self._big >= self._limits.big_at_once:
                            raise BodyRefused(503, "other big bodies are being read")
                        big = True
                        self._big += 1
            return bytes(body)
        except TimeoutError:
            raise BodyRefused(408, f"its body did not arrive within {seconds:g} s") from None
        except ClientDisconnect:
            raise BodyRefused(400, "the client hung up in the middle of the body") from None
        finally:
            self._big -= big

    def _check_length(self, request: HttpRequest) -> None:
        lengths = request.headers.getlist("content-length")
        # A proxy in front may have believed the other one (RFC 9112, 6.3).
        if len(lengths) + len(request.headers.getlist("transfer-encoding")) > 1:
            raise BodyRefused(400, "it says in several ways how long it is")
        if not lengths:
            return
        # Python reads also ١٢ and 1_000 as numbers.
        if not (lengths[0].isascii() and lengths[0].isdigit() and len(lengths[0]) < 20):
            raise BodyRefused(400, "its Content-Length is no number")
        if int(lengths[0]) > self._limits.body_bytes:
            raise self._too_big()

    def _too_big(self) -> BodyRefused:
        return BodyRefused(413, f"its body has more than {self._limits.body_bytes} bytes")
