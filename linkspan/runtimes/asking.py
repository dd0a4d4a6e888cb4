"""Requests to a replica that nobody vouches for: an answer has an end, in bytes and in time."""

import time
from typing import Any

import httpx

from linkspan.errors import RuntimeUnavailable
from linkspan.runtimes.readiness import Probe

ANSWER_BYTES = 16 << 20
"""The longest answer that is read, unpacked."""
_PROBE_SECONDS = 5


class CannotAsk(RuntimeUnavailable):
    """The way to a replica is cut: what it would say is not known."""


def ask(http: httpx.Client, method: str, path: str, *, json: Any = None, seconds: float) -> httpx.Response:
    """The whole answer, within `seconds`, though it may come in pieces without end.

    Raises httpx.HTTPError; httpx.ReadError for more than ANSWER_BYTES, and for a packing that may make a
    gigabyte of a few bytes.
    """
    end = time.monotonic() + seconds
    whole = bytearray()
    plain = {"Accept-Encoding": "identity"}
    with http.stream(method, path, json=json, timeout=seconds, headers=plain) as answer:
        if (packed := answer.headers.get("Content-Encoding", "")) not in {"", "identity", "gzip", "deflate"}:
            raise httpx.ReadError(
                f"it is packed with {packed[:20]}, though nothing was asked for but identity"
            )
        for piece in answer.iter_bytes():
            whole += piece
            if len(whole) > ANSWER_BYTES:
                raise httpx.ReadError(f"it had not ended after {ANSWER_BYTES >> 20} MiB")
            if time.monotonic() > end:
                raise httpx.ReadTimeout("it did not end")
    kind = {"Content-Type": answer.headers.get("Content-Type", "")}
    return httpx.Response(answer.status_code, headers=kind, content=bytes(whole))


def probe(http: httpx.Client, path: str) -> Probe:
    """The answer to a readiness request."""
    try:
        answer = ask(http, "GET", path, seconds=_PROBE_SECONDS)
    except httpx.HTTPError as error:
        return Probe(error=str(error) or type(error).__name__)
    return Probe(status=answer.status_code, body=answer.text)
