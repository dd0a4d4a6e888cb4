"""HTTP to one registry: authorization, redirects, retries, counting, and errors that know what they mean."""

import functools
import random
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from linkspan.errors import RegistryError, RegistryUnavailable
from linkspan.registry.answers import error_for, retry_after
from linkspan.registry.auth import CredentialRule
from linkspan.registry.ref import is_loopback
from linkspan.registry.token import Authorizer

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
            verify=_tls(),
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
        headers: dict[str, str] | None = None,
        scopes: tuple[str, ...] = (),
        attempts: int = _ATTEMPTS,
        cap: int = _ANSWER_CAP,
    ) -> Answer:
        """A request whose answer fits into memory, `cap` bytes; any status not in `expect` is raised.

        Temporary failures are tried again `attempts` times at most: one that streams its body cannot be.
        """
        attempts = attempts if isinstance(body, bytes) else 1
        for attempt in range(1, attempts + 1):
            try:
                with self.stream(
                    method, target, what=what, expect=expect, body=body, headers=headers, scopes=scopes
                ) as response:
                    content = self._read_capped(response, what, cap)
                    return Answer(response.status_code, response.headers, content)
            except RegistryUnavailable:
                backoff = 0.1 * 4**attempt * random.uniform(0.5, 1)  # noqa: S311 (jitter, no secret)
                wait = backoff if self._asked_to_wait is None else self._asked_to_wait
                if attempt == attempts or wait > _LONGEST_WAIT:
                    raise
                self._sleep(wait)
        raise AssertionError("unreachable")

    @contextmanager
    def stream(
        self,
        method: str,
        target: str | httpx.URL,
        *,
        what: str,
        expect: Sequence[int],
        body: Body = b"",
        headers: dict[str, str] | None = None,
        scopes: tuple[str, ...] = (),
    ) -> Iterator[httpx.Response]:
        """One request, once; its answer is read by the caller and counted by `chunks`."""
        url = self.url(target)
        self._asked_to_wait = None
        scopes = scopes or (f"repository:{self.repository}:pull,push",)
        try:
            response = self._authorized(method, url, body, headers or {}, scopes)
            try:
                if response.status_code not in expect:
                    raise self._refusal(response, what)
                yield response
            finally:
                response.close()
        except httpx.TransportError as error:
            raise RegistryUnavailable(
                f"{what} at registry {self.host}, repository {self.repository}: connection failed",
                found=str(error) or type(error).__name__,
            ) from None

    def chunks(self, response: httpx.Response) -> Iterator[bytes]:
        """The bytes of an answer as they come."""
        # Raw: a registry that compresses on the way would change what the digest is of.
        for chunk in response.iter_raw(1 << 20):
            self.received += len(chunk)
            yield chunk

    def url(self, target: str | httpx.URL) -> httpx.URL:
        """`target` below this repository (`blobs/…`), or a location that the registry gave."""
        if isinstance(target, str):
            return self.base.join(f"/v2/{self.repository}/{target}" if target else "/v2/")
        url = self.base.join(target)
        # A registry behind a proxy that ends TLS often does not know it and answers http:// locations.
        if url.host == self.base.host and url.scheme == "http" and self.base.scheme == "https":
            url = url.copy_with(scheme="https", port=self.base.port)
        return url

    def _authorized(
        self, method: str, url: httpx.URL, body: Body, headers: dict[str, str], scopes: tuple[str, ...]
    ) -> httpx.Response:
        response = self._redirected(method, url, body, headers, scopes)
        if response.status_code != 401 or not self._is_ours(response.request.url):
            return response
        response.read()
        self._authorizer.challenged(response.headers, scopes)
        if not isinstance(body, bytes):
            raise RegistryUnavailable(
                f"registry {self.host} did not take the login of a moment ago for an upload",
                found=self.repository,
            )
        return self._redirected(method, url, body, headers, scopes)

    def _redirected(
        self, method: str, url: httpx.URL, body: Body, headers: dict[str, str], scopes: tuple[str, ...]
    ) -> httpx.Response:
        for _ in range(5):
            response = self._once(method, url, body, headers, scopes)
            location = response.headers.get("location")
            if response.status_code not in _REDIRECTS or not location or method not in ("GET", "HEAD"):
                return response
            response.close()
            url = url.join(location)
            if url.scheme != "https" and self.base.scheme == "https":
                raise RegistryError(
                    f"registry {self.host} redirects to plain HTTP", found=f"http://{url.host}"
                )
        raise RegistryError(f"registry {self.host} redirects without end", found=f"{url.scheme}://{url.host}")

    def _once(
        self, method: str, url: httpx.URL, body: Body, headers: dict[str, str], scopes: tuple[str, ...]
    ) -> httpx.Response:
        headers = {"Accept-Encoding": "identity", **headers}
        # Storage behind the registry, and anybody it redirects to, must not learn our login.
        if self._is_ours(url) and (authorization := self._authorizer.header(scopes)):
            headers["Authorization"] = authorization
        content = self._counted(body) if not isinstance(body, bytes) else body
        request = self._client.build_request(method, url, headers=headers, content=content)
        response = self._client.send(request, stream=True, follow_redirects=False)
        if isinstance(body, bytes):
            self.sent += len(body)
        return response

    def _counted(self, body: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in body:
            self.sent += len(chunk)
            yield chunk

    def _is_ours(self, url: httpx.URL) -> bool:
        return (url.scheme, url.host, url.port) == (self.base.scheme, self.base.host, self.base.port)

    def _read_capped(self, response: httpx.Response, what: str, cap: int) -> bytes:
        data = bytearray()
        for chunk in self.chunks(response):
            data += chunk
            if len(data) > cap:
                raise RegistryError(f"{what}: the answer is too long", expected=f"at most {cap} bytes")
        return bytes(data)

    def _refusal(self, response: httpx.Response, what: str) -> RegistryError:
        try:
            body = self._read_capped(response, what, 1 << 16)
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


@functools.cache
def _tls() -> ssl.SSLContext:
    # The machine's own authorities too, because private registries have private ones.
    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context
