"""Models that releases mount, as volumes of the engine: filled once from the model's image, then only read.

A volume is named by the app and by the model's image, and what is in it never changes. The engine fills it: a
container that is made with an empty volume gets what its image has there. Only then a second, empty volume
says that the first is whole, so that what a killed process left half full is never used.

Of the newest model the engine keeps the image too, so that the next one fetches only the layers that it has
not; of the others it would be the same bytes once more.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import docker
import requests
from docker.errors import APIError, NotFound
from docker.types import Mount as DockerMount

from linkspan.engine import engine_id, pull, pull_error
from linkspan.errors import RolloutConflict, RuntimeUnavailable
from linkspan.nouns import Digest, Mount
from linkspan.progress import Say
from linkspan.runtimes.docker.lock import locked
from linkspan.runtimes.docker.plan import APP, ROLE

CONTENT = "dev.linkspan.content"
"""Label of a volume: the digest of the model that is in it."""
IMAGE = "dev.linkspan.image"
"""Label of a volume: the reference of the image that it is filled from."""

_MODEL, _WHOLE = "model", "whole-model"
_PATIENCE_SECONDS = 3600
"""In that time a volume of 100 GB is filled."""


def volume_of(app: str, mount: Mount) -> str:
    """The volume of a model. No service's name has a `_`, so none is taken for one."""
    return f"linkspan-{app}_model-{mount.image.rpartition(':')[2][:32]}"


@contextmanager
def mounted(
    client: docker.DockerClient,
    app: str,
    mount: Mount | None,
    auth: Mapping[str, str] | None,
    *,
    say: Say,
) -> Iterator[list[DockerMount]]:
    """What a container must be given when it is made, inside the block, to see the model; [] for no mount.

    Fills the volume if need be, and as long as the block lasts nobody on this machine removes it. Raises the
    errors of engine.pull, and RuntimeUnavailable while the engine still fills it for somebody else.
    """
    if mount is None:
        yield []
        return
    name = volume_of(app, mount)
    with _turn(client, app, say):
        if not (_labels(client, name) and _labels(client, _witness(name))):
            say(f"filling volume {name} from {mount.image}")
            _fill(client, app, mount, name, auth, say)
        # Without a copy: the code image has nothing there that should ever be taken for the model.
        yield [DockerMount(mount.path, name, type="volume", read_only=True, no_copy=True)]


def superfluous_models(client: docker.DockerClient, app: str, keep: Collection[Digest]) -> dict[str, str]:
    """The app's volumes of models but for those of the contents in `keep`, with the images they are from."""
    found = {name: labels for name, labels in _models(client, app).items() if labels[CONTENT] not in keep}
    return {name: str(labels.get(IMAGE, "")) for name, labels in sorted(found.items())}


def remove_models(client: docker.DockerClient, app: str, *, keep: Collection[Digest], say: Say) -> None:
    """Remove `superfluous_models` that no container has; later, if one is being filled now.

    Raises docker's APIError.
    """
    try:
        with _turn(client, app, lambda _: None, seconds=0):
            for name, image in superfluous_models(client, app, keep).items():
                # The image first: its name is nowhere but on the volume.
                _forget(client, image)
                if _remove(client, name):
                    say(f"removed volume {name}: no release that is kept mounts it")
    except RolloutConflict:
        say("a model is being fetched: the next rollout removes those of older releases")


@contextmanager
def _turn(
    client: docker.DockerClient, app: str, say: Say, *, seconds: float = _PATIENCE_SECONDS
) -> Iterator[None]:
    name = f"linkspan-{app}_models-{engine_id(client)}"
    with locked(name, seconds=seconds, say=say, of=f"what fetches a model of {app}"):
        yield


def _fill(
    client: docker.DockerClient,
    app: str,
    mount: Mount,
    name: str,
    auth: Mapping[str, str] | None,
    say: Say,
) -> None:
    labels = {APP: app, ROLE: _MODEL, CONTENT: mount.content, IMAGE: mount.image}
    if _remove(client, name):
        client.volumes.create(name, labels=labels)
        try:
            _copy(client, str(pull(client, mount.image, auth, say=say).id), mount.path, name)
        except Exception as error:
            # A full disk is no place for half a model. What the engine is still at work on, it keeps.
            with suppress(APIError, requests.RequestException):
                _remove(client, name)
            _forget(client, mount.image)
            if isinstance(error, APIError):
                raise pull_error(mount.image, str(error.explanation or error)) from None
            raise
    elif not _is_used(client, name):
        raise RuntimeUnavailable(
            f"volume {name} is being filled by somebody else", fix="The next try finds it whole"
        )
    # Else it was whole when a container was made with it: only the word of it was lost.
    client.volumes.create(_witness(name), labels={APP: app, ROLE: _WHOLE})
    for other, known in _models(client, app).items():
        if other != name and known.get(IMAGE) != mount.image:
            _forget(client, known.get(IMAGE, ""))


def _copy(client: docker.DockerClient, image: str, path: str, name: str) -> None:
    """By making a container that never runs."""
    timeout, client.api.timeout = client.api.timeout, _PATIENCE_SECONDS
    try:
        mount = DockerMount(path, name, type="volume")
        client.containers.create(
            image, command=["-"], name=_filler(name), network_mode="none", mounts=[mount]
        ).remove(force=True)
    finally:
        client.api.timeout = timeout


def _is_used(client: docker.DockerClient, name: str) -> bool:
    """Whether a container has a volume of ours that is in use.

    One that is just being made does not count: the engine copies before it knows it by its ID, though it may
    list it already (moby, daemon/create.go).
    """
    known = client.containers.list(all=True, filters={"volume": name}, ignore_removed=True)
    return IMAGE in _labels(client, name) and bool(known)


def _models(client: docker.DockerClient, app: str) -> dict[str, dict[str, Any]]:
    """The labels of the app's volumes of models, by their names."""
    found = client.volumes.list(filters={"label": [f"{APP}={app}", f"{ROLE}={_MODEL}", CONTENT]})
    return {str(volume.name): volume.attrs.get("Labels") or {} for volume in found}


def _forget(client: docker.DockerClient, image: str) -> None:
    """It can be pulled again, so whatever the engine says against it is no failure."""
    with suppress(APIError, requests.RequestException):
        client.api.remove_image(image)


def _remove(client: docker.DockerClient, name: str) -> bool:
    """Remove a volume and the word that it is whole; False if it is in use, and stays."""
    with suppress(NotFound):  # of a process that was killed while it filled
        client.containers.get(_filler(name)).remove(force=True)
    for each in (name, _witness(name)):
        try:
            client.volumes.get(each).remove()
        except NotFound:
            continue
        except APIError as error:
            if error.status_code == 409:
                return False
            raise
    return True


def _labels(client: docker.DockerClient, name: str) -> dict[str, Any]:
    """The labels of a volume, which all of ours have; none if it is not there."""
    try:
        return client.volumes.get(name).attrs.get("Labels") or {}
    except NotFound:
        return {}


def _witness(name: str) -> str:
    return f"{name}.whole"


def _filler(name: str) -> str:
    return f"{name}.filler"
