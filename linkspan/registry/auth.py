"""Where a registry's user name and password come from: one rule per kind of registry.

This is one of the three extension points: a new kind is a class with `credentials()` and a name in
`RegistrySettings.auth`.
"""

import base64
import binascii
import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import httpx
from pydantic import SecretStr

from linkspan.errors import RegistryDenied, RegistryError, RegistryUnavailable
from linkspan.tls import trusted

# Renewed this long before they end: longer than the longest call that is made with them.
_EARLY = 600.0
# The user name that says "the password is a refresh token", Azure/acr docs/AAD-OAuth.md.
ACR_USER = "00000000-0000-0000-0000-000000000000"
ACR_SCOPE = "https://containerregistry.azure.net/.default"


@dataclass(frozen=True)
class Credentials:
    """A user name and a password. `refresh_token`: the password is an OAuth2 refresh token."""

    username: str
    password: SecretStr
    refresh_token: bool = False

    @property
    def basic(self) -> str:
        """The value of an Authorization header, RFC 7617."""
        pair = f"{self.username}:{self.password.get_secret_value()}".encode()
        return "Basic " + base64.b64encode(pair).decode()


class CredentialRule(Protocol):
    """Says which credentials are good now. Raises RegistryDenied or RegistryUnavailable."""

    def credentials(self) -> Credentials | None: ...


class Password:
    """A fixed user name and password; without them, anonymous."""

    def __init__(self, username: str, password: SecretStr | None) -> None:
        self._credentials = Credentials(username, password) if username and password else None

    def credentials(self) -> Credentials | None:
        return self._credentials


class _Cached(ABC):
    """Credentials that are asked for once and again shortly before they end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: Credentials | None = None
        self._until = 0.0

    def credentials(self) -> Credentials | None:
        if self._held is None or self._clock() > self._until - _EARLY:
            self._held, self._until = self._fetch()
        return self._held

    @abstractmethod
    def _fetch(self) -> tuple[Credentials, float]:
        """New ones, and until when they are good, by the clock."""


class Ecr(_Cached):
    """Amazon ECR: user `AWS` and a password for 12 hours, from GetAuthorizationToken.

    `client` makes a boto3 ECR client for a region; the standard AWS credential chain by default.
    """

    def __init__(
        self,
        host: str,
        *,
        # boto3 makes its clients at run time; their type has no name in the library itself.
        client: Callable[[str | None], Any] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock)
        self._host = host
        self._client = client or _ecr_client

    def _fetch(self) -> tuple[Credentials, float]:
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            EndpointConnectionError,
            HTTPClientError,
        )

        match = re.search(r"\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.", self._host)
        try:
            answer = self._client(match[1] if match else None).get_authorization_token()
            data = answer["authorizationData"][0]
            username, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        except (EndpointConnectionError, HTTPClientError) as error:
            raise RegistryUnavailable(
                f"AWS gave no password for registry {self._host}", found=error
            ) from None
        except (BotoCoreError, ClientError, LookupError, ValueError) as error:
            raise RegistryDenied(
                f"AWS gave no password for registry {self._host}",
                found=error,
                fix="Check the AWS credentials of this machine and that they allow ecr:GetAuthorizationToken",
            ) from None
        expires: datetime = data["expiresAt"]
        return Credentials(username, SecretStr(password)), expires.timestamp()


def _ecr_client(region: str | None) -> Any:  # see Ecr
    import boto3

    return boto3.client("ecr", region_name=region)


class Acr(_Cached):
    """Azure Container Registry: an Entra token, exchanged for a refresh token of the registry.

    https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md. `entra_token` gives a token for a scope;
    DefaultAzureCredential by default.
    """

    def __init__(
        self,
        base_url: str,
        *,
        entra_token: Callable[[str], str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock)
        self._base = httpx.URL(base_url)
        self._entra_token = entra_token or _default_entra_token

    def _fetch(self) -> tuple[Credentials, float]:
        service = self._base.netloc.decode()
        form = {
            "grant_type": "access_token",
            "service": service,
            "access_token": self._entra_token(ACR_SCOPE),
        }
        try:
            answer = httpx.post(
                self._base.join("/oauth2/exchange"),
                data=form,
                timeout=30,
                follow_redirects=False,
                verify=trusted(),
            )
        except httpx.TransportError as error:
            raise RegistryUnavailable(f"registry {service} cannot be reached", found=error) from None
        if answer.status_code == 429 or answer.status_code >= 500:
            raise RegistryUnavailable(f"token exchange at registry {service}", found=answer.status_code)
        if answer.status_code != 200:
            raise RegistryDenied(
                f"registry {service} does not take this machine's Azure identity",
                found=answer.status_code,
                fix="Give the identity the roles AcrPull and AcrPush on the registry",
            )
        try:
            token = str(answer.json()["refresh_token"])
        except (ValueError, KeyError, TypeError):
            raise RegistryError(f"token exchange at registry {service}", expected="a refresh_token") from None
        until = _jwt_expiry(token) or self._clock() + 3 * 3600
        return Credentials(ACR_USER, SecretStr(token), refresh_token=True), until


def _default_entra_token(scope: str) -> str:
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import CredentialUnavailableError, DefaultAzureCredential

    try:
        return DefaultAzureCredential().get_token(scope).token
    except (CredentialUnavailableError, ClientAuthenticationError) as error:
        raise RegistryDenied(
            "this machine has no Azure identity",
            found=str(error.message).splitlines()[0],
            fix="Run `az login`, or give the machine a managed or workload identity",
        ) from None


def _jwt_expiry(token: str) -> float | None:
    # Read, not verified: it only decides when to ask again.
    try:
        payload = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"])
    except (IndexError, KeyError, ValueError, TypeError, binascii.Error):
        return None
