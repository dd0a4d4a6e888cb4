"""Pushes a code image to the registry through the Docker Engine, and says what went wrong."""

from collections.abc import Iterator, Mapping
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound
from pydantic import SecretStr

from linkspan.engine import Meanings, meaning, reaching
from linkspan.errors import (
    BuildFailed,
    BuildUnavailable,
    LinkspanError,
    RegistryDenied,
    RegistryError,
    RegistryFull,
    RegistryUnavailable,
)
from linkspan.nouns import Digest
from linkspan.progress import Say, Transfer
from linkspan.registry.auth import Password
from linkspan.registry.client import Registry
from linkspan.registry.media import Image, parse
from linkspan.registry.ref import split_registry


def push(
    client: docker.DockerClient,
    image: str,
    repository: str,
    tag: str,
    auth: Mapping[str, str] | None,
    *,
    say: Say,
) -> tuple[Digest, frozenset[str]]:
    """Push `image` as `repository:tag`; returns its manifest's digest and which layers moved (see `moved`).

    `auth` is {"username": …, "password": …}; None uses what `docker login` stored. Raises RegistryDenied,
    RegistryFull, RegistryUnavailable (retriable), RegistryError, BuildUnavailable (retriable).
    """
    with reaching(BuildUnavailable):
        try:
            client.api.tag(image, repository, tag)
            lines = client.api.push(
                repository, tag=tag, stream=True, decode=True, auth_config=dict(auth) if auth else None
            )
            return _follow(lines, repository, tag, auth, say)
        except ImageNotFound:
            raise BuildFailed(
                f"image {image} is not in the engine any more", fix="Run the stream again"
            ) from None
        except APIError as error:
            raise push_error(repository, str(error.explanation or error)) from None


def _follow(
    lines: Iterator[dict[str, Any]], repository: str, tag: str, auth: Mapping[str, str] | None, say: Say
) -> tuple[Digest, frozenset[str]]:
    digest: Digest = ""
    transfer = Transfer("pushed", say)
    layers: set[str] = set()
    asked = False
    for line in lines:
        status, detail = str(line.get("status", "")), line.get("progressDetail") or {}
        if "error" in line:
            _ask_registry(repository, auth)
            raise push_error(repository, str(line["error"]))
        if status.startswith("Retrying") and not asked:
            # The engine tries for most of a minute; what it will say in the end is less than this.
            asked = True
            say(f"the engine tries to push to {repository} again")
            _ask_registry(repository, auth)
        if status == "Pushing" and "current" in detail:
            transfer.update(str(line["id"]), detail["current"], detail.get("total") or 0)
        if status == "Pushed":
            layers.add(str(line["id"]))
        digest = (line.get("aux") or {}).get("Digest", digest)
    if not digest:
        raise RegistryError(f"the engine pushed {repository}:{tag} and did not say which digest it has")
    say(f"pushed {repository}:{tag}: {len(layers)} layers that were not there")
    return digest, frozenset(layers)


def moved(image: Image, layers: frozenset[str]) -> int:
    """Bytes of `layers` as they lie in the registry: what went over the wire, not what it unpacks to.

    The engine names a layer by the first 12 hex digits of its diff ID, and manifest and config list layers in
    the same order (OCI image-spec config.md, "rootfs").
    """
    diff_ids = parse(image.config, "config of the code image")["rootfs"]["diff_ids"]
    pairs = zip(diff_ids, image.manifest.document["layers"], strict=True)
    return sum(layer["size"] for diff_id, layer in pairs if diff_id.removeprefix("sha256:")[:12] in layers)


def _ask_registry(repository: str, auth: Mapping[str, str] | None) -> None:
    """Raise RegistryFull if that is why a push fails: the engine hides it behind "500"."""
    host, path = split_registry(repository)
    rule = Password(auth["username"], SecretStr(auth["password"])) if auth else None
    with Registry(host, path, rule, sleep=lambda _: None) as registry:
        try:
            registry.push_blob(b"is there space?")
        except RegistryFull:
            raise
        except LinkspanError:
            return  # what the engine says about anything else is good enough


# The words of moby 20.10 to 28.
_MEANINGS: Meanings = (
    (
        r"unauthorized|authentication required|no basic auth|denied|forbidden|incorrect username",
        RegistryDenied,
        "registry {host} refuses to take {repository}",
        "Check the registry block's user name and password, and that this user may push there",
    ),
    (
        r"no space left|insufficient storage|\b507\b|quota",
        RegistryFull,
        "registry {host} has no space for {repository}",
        "Free space in it (delete old tags and collect garbage) or enlarge it",
    ),
    (
        r"server gave http response|certificate|x509",
        RegistryError,
        "the engine does not trust registry {host}",
        "Give the engine its CA, or name it in `insecure-registries` in /etc/docker/daemon.json",
    ),
    (
        r"connection refused|no such host|time-?out|timed out|\beof\b|connection reset|unreachable"
        r"|broken pipe|toomanyrequests|\b(429|50[0234])\b",
        RegistryUnavailable,
        "registry {host} cannot take {repository} now",
        "The next run tries again; if it stays so, the registry's own log says why",
    ),
    (r"", RegistryError, "{repository} cannot be pushed", ""),
)


def push_error(repository: str, text: str) -> RegistryError:
    """What the engine's message about a failed push means."""
    return meaning(_MEANINGS, text, host=split_registry(repository)[0], repository=repository)
