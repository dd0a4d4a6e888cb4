"""Requests to the Prefect server: credentials, pages, patience, and refusals turned into our errors."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from linkspan.errors import ConfigError, ServerDenied, ServerError, ServerUnavailable, ServerUnknown
from linkspan.tls import trusted

Json = Any
"""A JSON document as the server gave it."""

REQUEST_SECONDS = 15.0
BUSY_SECONDS = 10.0
IDLE_SECONDS = 2.0
"""How long a connection without a request is kept. A server ends it after 5 s (uvicorn's default), and who
asks just then gets no answer."""
PAGE = 200
# Of a server that is there: one that cannot be connected to is not asked again.
_NO_ANSWER = (httpx.ReadTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


class ServerHttp:
    """Connections to one server.

    Calls raise ServerUnavailable (retriable: network, 5xx, throttling), ServerDenied (credentials) and
    ServerError with the server's own words for every other refusal.
    """

    def __init__(self, api_url: str, auth: SecretStr | None, api_key: SecretStr | None) -> None:
        try:
            url = httpx.URL(api_url)
        except httpx.InvalidURL as error:
            raise ConfigError(
                "the address of the Prefect server is no URL",
                found=str(error),
                expected="PREFECT_API_URL like http://127.0.0.1:4200/api",
            ) from None
        # A password in the address would be in every message that names it.
        self.api_url = str(url.copy_with(userinfo=b"")).rstrip("/")
        headers: dict[str, str] = {}
        basic = httpx.BasicAuth(url.username, url.password) if url.userinfo else None
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key.get_secret_value()}"
        elif auth is not None:
            user, _, password = auth.get_secret_value().partition(":")
            basic = httpx.BasicAuth(user, password)
        self._client = httpx.Client(
            base_url=self.api_url + "/",
            auth=basic,
            headers=headers,
            verify=trusted(),
            limits=httpx.Limits(keepalive_expiry=IDLE_SECONDS),
        )

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, *, what: str = "", seconds: float | None = None) -> Json:
        """The JSON at `path`; `what` names it for people, should it be missing."""
        return self.read(self.request("GET", path, what=what, seconds=seconds))

    def post(self, path: str, body: Json) -> Json:
        """The JSON that the server answers."""
        return self.read(self.request("POST", path, body))

    def read(self, answer: httpx.Response) -> Json:
        """The JSON of an answer. Raises ServerUnknown if it is none."""
        try:
            return answer.json()
        except ValueError:
            raise ServerUnknown(
                f"what answers at {self.api_url} is no Prefect server",
                expected="JSON",
                found=answer.headers.get("content-type", "no type"),
                fix="Does the address end in /api, and is a login page in between?",
            ) from None

    def pages(self, path: str, body: Mapping[str, Json] | None = None) -> Iterator[Json]:
        """All that a filter finds, over as many pages as it takes."""
        offset = 0
        while page := self.post(path, {**(body or {}), "offset": offset, "limit": PAGE}):
            yield from page
            offset += len(page)
            if len(page) < PAGE:
                return

    def answers(self, path: str) -> bool:
        """Whether the server answers 200 there, within five seconds."""
        try:
            return self._client.get(path, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def request(
        self, method: str, path: str, body: Json = None, *, what: str = "", seconds: float | None = None
    ) -> httpx.Response:
        """The answer, if it is a success. `seconds` is the most that all of it may take.

        503 is what the server says when its database was locked and it did nothing (SQLite, under load), so
        any request may be repeated then, for a while. What changes nothing is asked once more if a server
        that is there does not answer, or ends the connection instead (RFC 9110, 9.2.2).
        """
        begin = time.monotonic()
        end = begin + (2 * REQUEST_SECONDS if seconds is None else seconds)
        while True:
            response = self._ask(method, path, body, end)
            if response.is_success:
                return response
            if response.status_code != 503 or time.monotonic() > min(end, begin + BUSY_SECONDS):
                raise refusal(response, what or f"{method} {path.partition('?')[0]}", self.api_url)
            time.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - spreads load, hides nothing

    def _ask(self, method: str, path: str, body: Json, end: float) -> httpx.Response:
        again = method == "GET" or path.endswith("/filter")
        try:
            with suppress(*_NO_ANSWER) if again else nullcontext():
                return self._once(method, path, body, end)
            return self._once(method, path, body, end)
        except httpx.TransportError as error:
            raise ServerUnavailable(
                f"the Prefect server at {self.api_url} cannot be reached: {error or type(error).__name__}",
                fix="Is it running? `linkspan up` starts one",
            ) from error

    def _once(self, method: str, path: str, body: Json, end: float) -> httpx.Response:
        left = end - time.monotonic()
        if left <= 0:
            raise httpx.ReadTimeout("timed out")
        return self._client.request(method, path, json=body, timeout=min(left, REQUEST_SECONDS))


def patiently(patience: float, call: Callable[[float], httpx.Response]) -> httpx.Response:
    """Call until it succeeds, with jittered exponential waits; ServerUnavailable after `patience` seconds.

    `call` gets the seconds that are left.
    """
    end = time.monotonic() + patience
    wait = 0.1
    while True:
        try:
            return call(max(0.5, end - time.monotonic()))
        except ServerUnavailable:
            left = end - time.monotonic()
            if left <= 0:
                raise
            # The last one comes when all of the time has passed, not before.
            time.sleep(min(left, wait * random.uniform(0.5, 1.5)))  # noqa: S311 - spreads load, hides nothing
            wait = min(wait * 2, 5.0)


def refusal(response: httpx.Response, what: str, api_url: str) -> ServerError:
    """The error for an answer that is no success, with the server's reason in it."""
    try:
        body = response.json()
    except ValueError:
        body = response.text
    detail = body.get("detail") or body.get("exception_message") or body if isinstance(body, dict) else body
    status = response.status_code
    if status in {401, 403}:
        return ServerDenied(
            f"the Prefect server at {api_url} refused the credentials (HTTP {status})",
            fix="Set PREFECT_API_AUTH_STRING to its user:password, or PREFECT_API_KEY for Prefect Cloud",
        )
    if status in {408, 425, 429} or status >= 500:
        return ServerUnavailable(f"the Prefect server at {api_url} answered HTTP {status}: {detail}"[:500])
    if status == 404:
        return ServerError(
            f"{what} is not on the Prefect server at {api_url}",
            fix="Save it: in the UI (Blocks), or in Python with `.save(…)` as the README shows"
            if what.startswith("block ")
            else "`linkspan up` or `python -m flows.setup` makes what Linkspan needs there",
        )
    return ServerError(f"{what}: the Prefect server refused it (HTTP {status}): {detail}"[:2000])


def check_names(deployment: str, parameters: Mapping[str, Any], schema: dict[str, Json]) -> None:
    """Raises ServerError for a parameter that the flow does not take.

    The server checks types, but takes a name that the flow has not; the run would fail later.
    """
    taken = schema.get("properties")
    if taken is not None and (unknown := sorted(set(parameters) - set(taken))):
        raise ServerError(
            f"{deployment} takes no parameter {', '.join(unknown)}", expected=", ".join(sorted(taken))
        )


def deployment_path(deployment: str) -> str:
    """Where the API has `flow-name/deployment-name`. Raises ConfigError for any other form."""
    flow, slash, name = deployment.partition("/")
    if not (flow and slash and name):
        raise ConfigError(f"{deployment!r} names no deployment", expected="flow-name/deployment-name")
    return f"deployments/name/{quote(flow, safe='')}/{quote(name, safe='')}"


def split_ref(ref: str) -> tuple[str, str]:
    """The parts of `block-type/name`, fit for a URL. Raises ConfigError for any other form."""
    kind, slash, name = ref.partition("/")
    if not (kind and slash and name) or "/" in name:
        raise ConfigError(
            f"{ref!r} names no block", expected="block-type/name, such as s3-model-store/digits"
        )
    return quote(kind, safe=""), quote(name, safe="")
