"""The images that builds need on the engine, and those that they leave there.

A base is found or pulled first, and given a company's CA where that is needed. Tidying must never decide how
a build ends: whatever cannot be removed now is found again by the next build.
"""

import hashlib
import io
import re
import tarfile
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, ImageNotFound

from linkspan.engine import engine_time, pull_error
from linkspan.errors import BuildError, BuildFailed, BuildUnavailable, ConfigError, RegistryUnavailable
from linkspan.ledger.labels import APP
from linkspan.progress import Say, Transfer

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# What pip, Python's ssl, requests, curl and Node look at.
_CA_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")

KEEP = 5
"""Code images of an app that stay: the newest ones are the cache of the next build."""

STALE = 3600.0
"""Seconds. A younger image without a name may be of a build next door that has not got its name yet."""


def base_id(client: docker.DockerClient, image: str, *, refresh: bool, say: Say) -> str:
    """The ID of a base image: the engine's own, pulled where it has none.

    `refresh` asks its registry for a newer one; if that cannot be reached, the engine's own is taken. Raises
    BuildUnavailable (retriable), BuildFailed if there is no such image.
    """
    have = _local(client, image)
    if have and (not refresh or "@sha256:" in image or image.startswith("sha256:")):
        return have
    try:
        _pull(client, image, say)
    except BuildError as error:
        if not have:
            raise
        say(f"base image {image} could not be refreshed, the one that is here is taken: {error.found}")
        return have
    found = _local(client, image)
    if not found:
        raise BuildFailed(f"base image {image} was pulled and is not there", fix="Look at the engine's log")
    return found


def _local(client: docker.DockerClient, image: str) -> str:
    try:
        return str(client.images.get(image).id)
    except ImageNotFound:
        return ""


def _pull(client: docker.DockerClient, image: str, say: Say) -> None:
    say(f"pulling base image {image}")
    # Without a tag docker-py asks for all of them.
    named = image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"
    transfer = Transfer(f"pulling {image}:", say)
    try:
        for line in client.api.pull(named, stream=True, decode=True):
            if "error" in line:
                raise _not_pulled(image, str(line["error"]))
            detail = line.get("progressDetail") or {}
            if line.get("status") == "Downloading" and "current" in detail:
                transfer.update(str(line.get("id", "")), detail["current"], detail.get("total") or 0)
    except APIError as error:
        raise _not_pulled(image, str(error.explanation or error)) from None


def _not_pulled(image: str, text: str) -> BuildError:
    cause = pull_error(image, text)
    fix = "Check the Dockerfile's FROM, pull the image once by hand, or name another in build_args (BASE=…)"
    if isinstance(cause, RegistryUnavailable):
        return BuildUnavailable(
            f"base image {image} is not here and its registry is out of reach", found=cause.found, fix=fix
        )
    return BuildFailed(f"base image {image} cannot be pulled", found=cause.found, fix=fix)


def read_bundle(path: str) -> bytes:
    """A CA bundle on this machine. Raises ConfigError."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the builder's ca_bundle {path} cannot be read: {error.strerror}",
            fix="Give the path of a PEM file on the machine of the worker",
        ) from None
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise ConfigError(f"the builder's ca_bundle {path} holds no certificate", expected="a PEM file")
    return data


def with_bundle(client: docker.DockerClient, base: str, bundle: bytes, labels: dict[str, str]) -> str:
    """The tag of an image that is `base` (an ID) plus the CA bundle; made once, then found again."""
    name = hashlib.sha256(base.encode() + bundle).hexdigest()[:20]
    tag = f"linkspan-base-with-ca:{name}"
    if not _local(client, tag):
        settings = " ".join(f"{variable}={BUNDLE}" for variable in _CA_VARIABLES)
        dockerfile = f"FROM {base}\nCOPY ca.crt {BUNDLE}\nENV {settings}\n"
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as tar:
            for file, data in (("Dockerfile", dockerfile.encode()), ("ca.crt", bundle)):
                info = tarfile.TarInfo(file)
                info.size, info.mode = len(data), 0o644
                tar.addfile(info, io.BytesIO(data))
        context.seek(0)
        lines = client.api.build(
            fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True, labels=labels, decode=True
        )
        for line in lines:
            if "error" in line:
                raise BuildFailed("the CA bundle cannot be put into the base image", found=line["error"])
    return tag


def tidy(client: docker.DockerClient, app: str, built: str) -> None:
    """Remove what builds of `app` left: images without a name, and all but the newest code images.

    `built` is the tag of the build that asks: its image stays, also if it is an old one from the cache.
    """
    try:
        images = client.api.images(filters={"label": f"{APP}={app}"})
        now = engine_time(client).timestamp()
    except (APIError, requests.RequestException):
        return
    code = [image for image in images if _code_tags(image, app)]
    code.sort(key=lambda image: (built in image["RepoTags"], image["Created"]), reverse=True)
    names = [name for image in code[KEEP:] for name in _code_tags(image, app)]
    names += [image["Id"] for image in images if _nameless(image) and now - image["Created"] > STALE]
    for name in names:
        _remove(client, name)


def _code_tags(image: dict[str, Any], app: str) -> list[str]:
    """The tags of a code image: as it was built, last, and before it as it was pushed to a registry."""
    tags = image.get("RepoTags") or []
    ours = [tag for tag in tags if re.fullmatch(rf"linkspan/{re.escape(app)}:code-[0-9a-f]+", tag)]
    keys = {tag.rpartition(":")[2] for tag in ours}
    return [tag for tag in tags if tag not in ours and tag.rpartition(":")[2] in keys] + ours


def _nameless(image: dict[str, Any]) -> bool:
    # A release has no tag here either, and the label of its app: it was pulled by digest, and is not ours.
    names = [*(image.get("RepoTags") or ()), *(image.get("RepoDigests") or ())]
    return all(name.startswith("<none>") for name in names)


def _remove(client: docker.DockerClient, image: str) -> None:
    try:
        client.api.remove_image(image)
    except (APIError, requests.RequestException):
        return  # in use by a container, or removed by another build: nothing is lost
