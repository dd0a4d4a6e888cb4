"""How to reach a registry: the fields that a person fills in, and the clients that are made from them."""

from typing import Literal

from pydantic import BaseModel, Field, SecretStr

from linkspan.errors import ConfigError
from linkspan.registry.auth import Acr, CredentialRule, Ecr, Password
from linkspan.registry.client import Registry
from linkspan.registry.ref import DOCKER_HUB, ImageRef, api_host, is_loopback


class RegistrySettings(BaseModel):
    """A place in a container registry: one repository per app below `prefix`."""

    host: str = Field(
        description="Registry without https://, for example ghcr.io, myteam.azurecr.io or localhost:5000"
    )
    prefix: str = Field(
        default="", description="Path before the app's name: `team` gives host/team/app. Empty for host/app"
    )
    username: str = Field(default="", description="User name; empty for ECR, ACR and anonymous access")
    password: SecretStr | None = Field(default=None, description="Password or access token of that user")
    auth: Literal["password", "ecr", "acr"] = Field(
        default="password",
        description="password: the two fields above. ecr, acr: this machine's AWS or Azure identity",
    )
    insecure: bool = Field(
        default=False, description="Speak plain HTTP. Hosts on this machine always do, as with Docker"
    )
    trusted_realms: list[str] = Field(
        default_factory=list,
        description="Token servers that may get the password, besides the registry's own and known ones",
    )

    chunk_mb: int = Field(
        default=0,
        ge=0,
        description="Send layers in pieces of at most so many MB, for a registry or a proxy before it that "
        "takes no longer request; 0 sends each as a whole",
    )

    @property
    def scheme(self) -> str:
        return "http" if self.insecure or is_loopback(self.host) else "https"

    def rule(self) -> CredentialRule:
        """The rule that gives the credentials. Raises ConfigError if the fields do not fit together."""
        if self.auth == "ecr":
            return Ecr(self.host)
        if self.auth == "acr":
            return Acr(f"{self.scheme}://{self.host}")
        secret = self.password.get_secret_value() if self.password else ""
        if bool(self.username) != bool(secret):
            missing = "password" if self.username else "user name"
            raise ConfigError(
                f"registry {self.host} has no {missing}", fix="Set user name and password, or neither of them"
            )
        return Password(self.username, self.password)

    def open(self, app: str) -> Registry:
        """The client for an app's repository. Raises ConfigError."""
        ref = self._ref(app)
        return Registry(
            ref.registry,
            ref.repository,
            self.rule(),
            scheme=self.scheme,
            trusted_realms=self.trusted_realms,
            chunk=self.chunk_mb * 1_000_000,
        )

    def repository(self, app: str) -> str:
        """The full name of an app's repository, as Docker and Kubernetes take it."""
        return self._ref(app).name

    def manifest_url(self, app: str, digest: str) -> str:
        """Where a browser finds the manifest of an image (OCI distribution-spec, "Pulling manifests")."""
        ref = self._ref(app)
        return f"{self.scheme}://{ref.registry}/v2/{ref.repository}/manifests/{digest}"

    def docker_auth(self) -> dict[str, str] | None:
        """Credentials in the form that docker-py's `auth_config` takes; None for anonymous access."""
        credentials = self.rule().credentials()
        if credentials is None:
            return None
        return {"username": credentials.username, "password": credentials.password.get_secret_value()}

    def _ref(self, app: str) -> ImageRef:
        host = self.host.strip().rstrip("/")
        if "://" in host or "/" in host or not host:
            raise ConfigError(
                f"registry host {self.host!r}", expected="host[:port]", fix="Put a path into the prefix"
            )
        host = DOCKER_HUB if api_host(host) == api_host(DOCKER_HUB) else host
        path = "/".join(filter(None, [self.prefix.strip("/"), app]))
        try:
            return ImageRef(registry=host, repository=path, tag="latest")
        except ValueError:
            raise ConfigError(
                f"registry {self.host!r} with prefix {self.prefix!r}",
                expected="a host and a path of lower-case letters, digits, '.', '_', '-' and '/'",
            ) from None
