"""HTTP to one registry: authorization, redirects, retries, counting, and errors that know what they mean."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import httpx

from linkspan.errors import RegistryError, RegistryUnavailable
from linkspan.registry.answers import error_for, retry_after
from linkspan.registry.auth import CredentialRule
from linkspan.registry.ref import is_loopback
from linkspan.registry.token import Authorizer
from linkspan.tls import trusted

Body = bytes | Iterator[bytes]

# Reading waits long: closing an upload makes some registries move or hash all of it before they answer.
_TIMEOUT = httpx.Timeout(60, connect=10, read=300)
_ATTEMPTS = 3
# A registry that wants more patience than this gets it from the flow's retries, not from a held connection.
_LONGEST_WAIT = 5.0
_ANSWER_CAP = 8 << 20
_REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True)
class Answer:
    """A whole answer of a registry."""

    status: int
    headers: httpx.Headers
    content: bytes


@dataclass(frozen=True)
class _Request:
    method: str
    url: httpx.URL
    body: Body
    headers: Mapping[str, str]
    scope: str


def _backoff(attempt: int) -> float:
    jitter: float = random.uniform(0.5, 1)  # noqa: S311 (no secret)
    return 0.1 * 4.0**attempt * jitter


class Transport:
    """Requests to one repository of a registry; `sent` and `received` count bytes of bodies."""

    def __init__(
        self,
        base: httpx.URL,
        repository: str,
        rule: CredentialRule,
        *,
        trusted_realms: Sequence[str] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base = base
        self.repository = repository
        self.sent = 0
        self.received = 0
        self._client = httpx.Client(
            timeout=_TIMEOUT,
            verify=trusted(),
            # A proxy of the company's is no way to this machine.
            trust_env=not is_loopback(base.netloc.decode()),
            headers={"User-Agent": "linkspan"},
        )
        self._authorizer = Authorizer(self._client, base, rule, trusted_realms=trusted_realms)
        self._sleep = sleep
        self._asked_to_wait: float | None = None

    @property
    def host(self) -> str:
        return self.base.netloc.decode()

    @property
    def user(self) -> str:
        return self._authorizer.user

    def close(self) -> None:
        self._client.close()

    def call(
        self,
        method: str,
        target: str | httpx.URL,
        *,
        what: str,
        expect: Sequence[int],
        body: Body = b"",
        headers: Mapping[str, str] | None = None,
        actions: str = "pull,push",
        attempts: int = _ATTEMPTS,
        cap: int = _ANSWER_CAP,
    ) -> Answer:
        """A request whose answer fits into memory, `cap` bytes; any status not in `expect` is raised.

        Temporary failures are tried again `attempts` times at most: one that streams its body cannot be.
        `actions` are what a token must allow.
        """
        scope = f"repository:{self.repository}:{actions}"
        request = _Request(method, self.url(target), body, headers or {}, scope)
        attempts = attempts if isinstance(body, bytes) else 1
        for attempt in range(1, attempts + 1):
            self._asked_to_wait = None
            try:
                return self._answer(request, what, expect, cap)
            except RegistryUnavailable:
                wait = _backoff(attempt) if self._asked_to_wait is None else self._asked_to_wait
                if attempt == attempts or wait > _LONGEST_WAIT:
                    raise
                self._sleep(wait)
        raise AssertionError("unreachable")

    def pause(self, attempt: int) -> None:
        """Wait before an attempt that is the caller's to make."""
        self._sleep(min(_backoff(attempt), _LONGEST_WAIT))

    def _answer(self, request: _Request, what: str, expect: Sequence[int], cap: int) -> Answer:
        with self._reaching(what), closing(self._authorized(request)) as response:
            if response.status_code not in expect:
                raise self._refusal(response, what)
            return Answer(response.status_code, response.headers, self._read(response, what, cap))

    @contextmanager
    def reading(self, target: str, *, what: str) -> Iterator[Iterator[bytes]]:
        """A GET whose answer may be of any size, as chunks; tried once, because its bytes have passed."""
        request = _Request("GET", self.url(target), b"", {}, f"repository:{self.repository}:pull,push")
        with self._reaching(what), closing(self._authorized(request)) as response:
            if response.status_code != 200:
                raise self._refusal(response, what)
            yield self._chunks(response)

    @contextmanager
    def _reaching(self, what: str) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise RegistryUnavailable(
                f"{what} at registry {self.host}, repository {self.repository}: connection failed",
                found=str(error) or type(error).__name__,
            ) from None

    def url(self, target: str | httpx.URL) -> httpx.URL:
        """`target` below this repository (`blobs/…`), or a location that the registry gave."""
        if isinstance(target, str):
            return self.base.join(f"/v2/{self.repository}/{target}" if target else "/v2/")
        url = self.base.join(target)
        # A registry behind a proxy that ends TLS often does not know it and answers http:// locations.
        if url.host == self.base.host and url.scheme == "http" and self.base.scheme == "https":
            url = url.copy_with(scheme="https", port=self.base.port)
        return url

    def _authorized(self, request: _Request) -> httpx.Response:
        response = self._redirected(request)
        if response.status_code != 401 or not self._is_ours(response.request.url):
            return response
        response.read()
        self._authorizer.challenged(response.headers, request.scope)
        if not isinstance(request.body, bytes):
            raise RegistryUnavailable(
                f"registry {self.host} did not take the login of a moment ago for an upload",
                found=self.repository,
            )
        return self._redirected(request)

    def _redirected(self, request: _Request) -> httpx.Response:
        url = request.url
        for _ in range(5):
            response = self._send(request, url)
            location = response.headers.get("location")
            if (
                response.status_code not in _REDIRECTS
                or not location
                or request.method not in ("GET", "HEAD")
            ):
                return response
            response.close()
            url = url.join(location)
            if url.scheme != "https" and self.base.scheme == "https":
                raise RegistryError(
                    f"registry {self.host} redirects to plain HTTP", found=f"http://{url.host}"
                )
        raise RegistryError(f"registry {self.host} redirects without end", found=f"{url.scheme}://{url.host}")

    def _send(self, request: _Request, url: httpx.URL) -> httpx.Response:
        headers = {"Accept-Encoding": "identity", **request.headers}
        # Storage behind the registry, and anybody it redirects to, must not learn our login.
        if self._is_ours(url) and (authorization := self._authorizer.header(request.scope)):
            headers["Authorization"] = authorization
        body = request.body
        content = body if isinstance(body, bytes) else self._counted(body)
        sent = self._client.build_request(request.method, url, headers=headers, content=content)
        response = self._client.send(sent, stream=True, follow_redirects=False)
        if isinstance(body, bytes):
            self.sent += len(body)
        return response

    def _counted(self, body: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in body:
            self.sent += len(chunk)
            yield chunk

    def _is_ours(self, url: httpx.URL) -> bool:
        return (url.scheme, url.host, url.port) == (self.base.scheme, self.base.host, self.base.port)

    def _chunks(self, response: httpx.Response) -> Iterator[bytes]:
        # Raw: a registry that compresses on the way would change what the digest is of.
        for chunk in response.iter_raw(1 << 20):
            self.received += len(chunk)
            yield chunk

    def _read(self, response: httpx.Response, what: str, cap: int) -> bytes:
        data = bytearray()
        for chunk in self._chunks(response):
            data += chunk
            if len(data) > cap:
                raise RegistryError(f"{what}: the answer is too long", expected=f"at most {cap} bytes")
        return bytes(data)

    def _refusal(self, response: httpx.Response, what: str) -> RegistryError:
        try:
            body = self._read(response, what, 1 << 16)
        except (httpx.TransportError, RegistryError):
            body = b""  # the status alone says enough
        self._asked_to_wait = retry_after(response.headers.get("retry-after"), time.time())
        return error_for(
            response.status_code,
            body,
            what=what,
            registry=self.host,
            repository=self.repository,
            user=self.user,
        )
