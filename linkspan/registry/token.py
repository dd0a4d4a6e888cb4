"""The Authorization header of a registry: challenges, bearer tokens and when to renew them.

Sources: RFC 9110 section 11 (challenges), distribution/docs/spec/auth/token.md (GET), oauth.md (POST).
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import httpx

from linkspan.errors import RegistryDenied, RegistryError, RegistryUnavailable
from linkspan.registry.answers import summary
from linkspan.registry.auth import CredentialRule, Credentials
from linkspan.registry.ref import hostname

# What the token specification says a token without `expires_in` lives.
_DEFAULT_LIFE = 60.0
# A token is renewed when less than this is left of it, so that it survives the start of the next request.
_MARGIN = 30.0

# Token servers that live outside of their registry's domain.
_KNOWN_REALMS = {"registry-1.docker.io": ("auth.docker.io",), "registry.gitlab.com": ("gitlab.com",)}
# Below these anybody can have a name, so a neighbour is a stranger.
_SHARED_PARENTS = re.compile(
    r"(^|\.)(azurecr\.(io|cn|us)|amazonaws\.com(\.cn)?|on\.aws|pkg\.dev|gcr\.io|ocir\.io|jfrog\.io"
    r"|digitaloceanspaces\.com|cloudfront\.net|azurewebsites\.net|(co|com|org|net|gov|ac)\.[a-z]{2})$"
)

_CHALLENGE = re.compile(r'([\w-]+)\s*=\s*("(?:\\.|[^"\\])*"|[^\s,"]+)|([A-Za-z][\w-]*)')


@dataclass(frozen=True)
class Challenge:
    """One way to authenticate that a 401 offers; `scheme` in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Read WWW-Authenticate headers; one header may hold several challenges."""
    challenges: list[Challenge] = []
    for header in headers:
        for match in _CHALLENGE.finditer(header):
            if match[3]:
                challenges.append(Challenge(match[3].lower(), {}))
            elif challenges:
                value = match[2]
                if value.startswith('"'):
                    value = re.sub(r"\\(.)", r"\1", value[1:-1])
                challenges[-1].parameters[match[1].lower()] = value
    return challenges


def trusted(realm: httpx.URL, registry: httpx.URL, allowed: Sequence[str]) -> bool:
    """Whether the registry's password may be sent to `realm`.

    It may go to the registry's own host, to its domain, to known token servers and to `allowed` host names;
    never over plain HTTP if the registry itself is not.
    """
    if realm.scheme != "https" and (realm.scheme, registry.scheme) != ("http", "http"):
        return False
    host, own = realm.host.lower(), registry.host.lower()
    if host == own or host in _KNOWN_REALMS.get(own, ()) or host in {hostname(name) for name in allowed}:
        return True
    parent = own.partition(".")[2]
    if "." not in parent or parent.replace(".", "").isdigit() or _SHARED_PARENTS.search(parent):
        return False
    return host == parent or host.endswith("." + parent)


@dataclass
class _Token:
    value: str
    renew_at: float


class Authorizer:
    """Answers challenges and remembers what was given, per scope."""

    def __init__(
        self,
        client: httpx.Client,
        registry: httpx.URL,
        rule: CredentialRule,
        *,
        trusted_realms: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._registry = registry
        self._rule = rule
        self._trusted_realms = trusted_realms
        self._clock = clock
        self._challenge: Challenge | None = None
        self._tokens: dict[str, _Token] = {}

    @property
    def user(self) -> str:
        """Who we are to the registry, for messages; empty if anonymous."""
        credentials = self._rule.credentials()
        return credentials.username if credentials else ""

    def header(self, scope: str) -> str | None:
        """The Authorization header to send, renewed if it would end soon; None before the first challenge."""
        if self._challenge is None:
            return None
        if self._challenge.scheme == "basic":
            credentials = self._rule.credentials()
            return credentials.basic if credentials else None
        token = self._tokens.get(scope)
        if token is None or self._clock() >= token.renew_at:
            token = self._tokens[scope] = self._fetch(self._challenge, scope)
        return f"Bearer {token.value}"

    def challenged(self, headers: httpx.Headers, scope: str) -> None:
        """Take in a 401. Raises RegistryDenied if there is no way to answer it."""
        offers = parse_challenges(headers.get_list("www-authenticate"))
        known = [offer for scheme in ("bearer", "basic") for offer in offers if offer.scheme == scheme]
        if not known:
            raise RegistryDenied(
                f"registry {self._where} asks for a kind of login that Linkspan does not have",
                expected="Basic or Bearer",
                found=", ".join(offer.scheme for offer in offers) or "none",
            )
        self._challenge = known[0]
        self._tokens.pop(scope, None)
        if self._challenge.scheme == "basic" and self._rule.credentials() is None:
            raise RegistryDenied(
                f"registry {self._where} wants a user name and a password",
                fix="Set both in the registry's settings",
            )

    def _fetch(self, challenge: Challenge, scope: str) -> _Token:
        realm = httpx.URL(challenge.parameters.get("realm", ""))
        service = challenge.parameters.get("service", "")
        credentials = self._rule.credentials()
        if credentials and not trusted(realm, self._registry, self._trusted_realms):
            raise RegistryDenied(
                f"registry {self._where} wants its password sent to {realm.scheme}://{realm.host}, "
                "which is not known to belong to it",
                fix=f"If it does, add {realm.host} to trusted_realms of the registry's settings",
            )
        asked = self._clock()
        try:
            answer = self._ask(realm, service, scope, credentials)
        except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
            raise RegistryUnavailable(
                f"token server {realm.host} of registry {self._where} cannot be reached", found=error
            ) from None
        return self._read(answer, realm, asked)

    def _ask(
        self, realm: httpx.URL, service: str, scope: str, credentials: Credentials | None
    ) -> httpx.Response:
        if credentials and credentials.refresh_token:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "scope": scope,
                "refresh_token": credentials.password.get_secret_value(),
            }
            return self._client.post(realm, data=form)
        query = httpx.QueryParams({"scope": scope})
        if service:
            query = query.set("service", service)
        headers = {"Authorization": credentials.basic} if credentials else {}
        return self._client.get(realm.copy_merge_params(query), headers=headers)

    def _read(self, answer: httpx.Response, realm: httpx.URL, asked: float) -> _Token:
        what = f"token server {realm.host} of registry {self._where}"
        if answer.status_code == 429 or answer.status_code >= 500:
            raise RegistryUnavailable(what, found=summary(answer.content, answer.status_code))
        if answer.status_code != 200:
            raise RegistryDenied(
                f"{what} refuses {f'user {self.user!r}' if self.user else 'anonymous access'}",
                found=answer.status_code,
                fix="Check user name and password in the registry's settings",
            )
        try:
            document = answer.json()
            value = document.get("token") or document.get("access_token")
            life = float(document.get("expires_in") or _DEFAULT_LIFE)
        except (ValueError, TypeError, AttributeError):
            value, life = None, 0.0
        if not isinstance(value, str):
            raise RegistryError(what, expected="JSON with token or access_token")
        # Counted from before we asked: the server's clock started no earlier.
        return _Token(value, asked + life - min(_MARGIN, life / 2))

    @property
    def _where(self) -> str:
        return self._registry.netloc.decode()
