"""Models that releases mount, as volumes of the engine: filled once from the model's image, then only read.

A volume is named by the app and by the content of the model, and what is in it never changes. The engine
fills it: a container that is made with an empty volume gets what its image has there. Only then a second,
empty volume says that the first is whole, so that what a killed process left half full is never used.

Of the newest model the engine keeps the image too, so that the next one fetches only the layers that it has
not; of the others it would be the same bytes once more.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

import docker
from docker.errors import APIError, NotFound
from docker.types import Mount as DockerMount

from linkspan.engine import engine_id, pull
from linkspan.nouns import Digest, Mount
from linkspan.progress import Say
from linkspan.runtimes.docker.lock import locked
from linkspan.runtimes.docker.plan import APP, ROLE

IMAGE = "dev.linkspan.image"
"""Label of a volume: the reference of the image that it was filled from."""

_MODEL, _WHOLE = "model", "whole-model"
_PATIENCE_SECONDS = 3600
"""In that time a volume of 100 GB is filled."""


def volume_of(app: str, content: Digest) -> str:
    """The volume of a model. No service's name has a `_`, so none is taken for one."""
    return f"linkspan-{app}_model-{content.removeprefix('sha256:')[:32]}"


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

    Fills the volume if need be, and as long as the block lasts nobody removes it. Raises the errors of
    engine.pull, and docker's APIError.
    """
    if mount is None:
        yield []
        return
    name = volume_of(app, mount.content)
    with _turn(client, app, say):
        if not (_there(client, name) and _there(client, _witness(name))):
            say(f"filling volume {name} from {mount.image}")
            _fill(client, app, mount, name, auth, say)
        # Without a copy: the code image has nothing there that should ever be taken for the model.
        yield [DockerMount(mount.path, name, type="volume", read_only=True, no_copy=True)]


def superfluous_models(client: docker.DockerClient, app: str, keep: Collection[Digest]) -> list[str]:
    """The app's volumes of models but for those of the contents in `keep`."""
    return sorted(_images(client, app).keys() - {volume_of(app, content) for content in keep})


def remove_models(client: docker.DockerClient, app: str, *, keep: Collection[Digest], say: Say) -> None:
    """Remove `superfluous_models` that no container has. Raises docker's APIError for anything else."""
    with _turn(client, app, say):
        for name in superfluous_models(client, app, keep):
            image = _images(client, app)[name]
            if _remove(client, name):
                _forget(client, image)
                say(f"removed volume {name}: no release that is kept mounts it")


@contextmanager
def _turn(client: docker.DockerClient, app: str, say: Say) -> Iterator[None]:
    name = f"linkspan-{app}_models-{engine_id(client)}"
    with locked(name, seconds=_PATIENCE_SECONDS, say=say):
        yield


def _fill(
    client: docker.DockerClient,
    app: str,
    mount: Mount,
    name: str,
    auth: Mapping[str, str] | None,
    say: Say,
) -> None:
    with suppress(NotFound):  # of a process that was killed here
        client.containers.get(_filler(name)).remove(force=True)
    if _remove(client, name):
        image = pull(client, mount.image, auth, say=say)
        client.volumes.create(name, labels={APP: app, ROLE: _MODEL, IMAGE: mount.image})
        try:
            _copy(client, str(image.id), mount.path, name)
        except APIError:
            _remove(client, name)  # a full disk is no place for half a model
            raise
    # Else a container has it, so it was whole when that was made: only the word of it was lost.
    client.volumes.create(_witness(name), labels={APP: app, ROLE: _WHOLE})
    for other, earlier in _images(client, app).items():
        if other != name and earlier != mount.image:
            _forget(client, earlier)


def _images(client: docker.DockerClient, app: str) -> dict[str, str]:
    """The app's volumes of models, and the references of the images that they were filled from."""
    found = client.volumes.list(filters={"label": [f"{APP}={app}", f"{ROLE}={_MODEL}"]})
    return {str(each.name): str((each.attrs.get("Labels") or {}).get(IMAGE, "")) for each in found}


def _forget(client: docker.DockerClient, image: str) -> None:
    """It can be pulled again, so whatever the engine says against it is no failure."""
    with suppress(APIError):
        client.api.remove_image(image)


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


def _remove(client: docker.DockerClient, name: str) -> bool:
    """Remove a volume and the word that it is whole; False if it is in use, and stays."""
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


def _there(client: docker.DockerClient, name: str) -> bool:
    try:
        client.volumes.get(name)
    except NotFound:
        return False
    return True


def _witness(name: str) -> str:
    return f"{name}.whole"


def _filler(name: str) -> str:
    return f"{name}.filler"
