"""What builds leave on the engine, and how much of it stays.

Tidying must never decide how a build ends: whatever cannot be removed now is found again by the next build.
"""

import re
import time
from typing import Any

import docker
import requests
from docker.errors import APIError

from linkspan.ledger.labels import APP

KEEP = 5
"""Code images of an app that stay: the newest ones are the cache of the next build."""

STALE = 3600.0
"""Seconds. A younger image without a name may be of a build next door that has not got its name yet."""


def tidy(client: docker.DockerClient, app: str, built: str) -> None:
    """Remove what builds of `app` left: images without a name, and all but the newest code images.

    `built` is the tag of the build that asks: its image stays, also if it is an old one from the cache.
    """
    try:
        images = client.api.images(filters={"label": f"{APP}={app}"})
    except (APIError, requests.RequestException):
        return
    code = [image for image in images if _code_tags(image, app)]
    code.sort(key=lambda image: (built in image["RepoTags"], image["Created"]), reverse=True)
    names = [name for image in code[KEEP:] for name in _code_tags(image, app)]
    names += [image["Id"] for image in images if _nameless(image) and time.time() - image["Created"] > STALE]
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
