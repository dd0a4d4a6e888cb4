"""Image references, parsed once at the edge, so that nothing inside handles strings that may mean anything.

Grammar: https://github.com/distribution/reference/blob/main/reference.go. Docker Hub's two special rules are
here too: names without a registry are Docker Hub's, and its official images live below `library/`.
"""

import ipaddress
import re
from typing import Annotated, Self

from pydantic import StringConstraints, model_validator

from linkspan.errors import ConfigError
from linkspan.nouns import Digest, Noun

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"

Repository = Annotated[
    str, StringConstraints(pattern=rf"^{_COMPONENT}(?:/{_COMPONENT})*$", min_length=1, max_length=255)
]
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")]
Host = Annotated[
    str, StringConstraints(pattern=rf"^(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?$")
]

DOCKER_HUB = "docker.io"
_HUB_NAMES = {DOCKER_HUB, "index.docker.io", "registry-1.docker.io"}


class ImageRef(Noun):
    """`registry/repository[:tag][@digest]`. `str()` of it parses to the same value. The digest wins."""

    registry: Host
    repository: Repository
    tag: Tag | None = None
    digest: Digest | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.tag is None and self.digest is None:
            raise ValueError("an image reference needs a tag or a digest")
        return self

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what people and tools write; `alpine` is `docker.io/library/alpine:latest`.

        Raises ConfigError.
        """
        name, _, digest = text.partition("@")
        name, tag = _split_tag(name)
        registry, repository = split_registry(name)
        if tag is None and not digest:
            tag = "latest"
        try:
            return cls(registry=registry, repository=repository, tag=tag, digest=digest or None)
        except ValueError:
            raise ConfigError(
                f"{text!r} is not an image reference",
                expected="registry[:port]/repository[:tag][@sha256:digest]",
            ) from None

    @property
    def reference(self) -> str:
        """What a manifest is asked for by: the digest, or else the tag."""
        return self.digest or self.tag or ""

    @property
    def name(self) -> str:
        """Registry and repository, as Docker writes them."""
        return f"{self.registry}/{self.repository}"

    def at(self, digest: Digest) -> Self:
        """The same repository, by digest."""
        return self.model_copy(update={"tag": None, "digest": digest})

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return self.name + tag + digest


def _split_tag(name: str) -> tuple[str, str | None]:
    # A colon before the last slash is a port, not a tag.
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    return head + slash + last, tag if colon else None


def split_registry(name: str) -> tuple[str, str]:
    """Split a repository name into registry and path, by Docker's rule for what looks like a host name."""
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = DOCKER_HUB, name
    if first in _HUB_NAMES:
        return DOCKER_HUB, rest if "/" in rest else f"library/{rest}"
    return first, rest


def api_host(registry: str) -> str:
    """The host that answers the distribution API for a registry's name."""
    return "registry-1.docker.io" if registry in _HUB_NAMES else registry


def hostname(host: str) -> str:
    """Host without its port, lower case, without the brackets of an IPv6 address."""
    match = re.fullmatch(r"\[(.+)\](?::\d+)?|([^:]+)(?::\d+)?", host)
    return (match[1] or match[2]).lower() if match else host.lower()


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by name or address: Docker speaks plain HTTP to those, and so do we."""
    name = hostname(host)
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
