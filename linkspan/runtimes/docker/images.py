"""Which release images, and which models that releases mount, stay on the engine: else a machine fills up.

Either can always be pulled again, so nothing here may fail a rollout: what cannot be removed is said and
left to the next one.
"""

from collections.abc import Callable, Iterable, Sequence

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from linkspan.errors import RuntimeUnavailable
from linkspan.nouns import Digest, Release, Revision
from linkspan.progress import Say
from linkspan.runtimes.base import Service
from linkspan.runtimes.docker import plan
from linkspan.runtimes.docker.models import remove_models, superfluous_models


def kept(history: Iterable[Revision], keep: int) -> dict[Digest, Release]:
    """The newest `keep` different releases that were live, by image; `history` is newest first."""
    served = [revision.release for revision in history if revision.outcome != "failed"]
    newest = list(dict.fromkeys(release.image for release in served))[:keep]
    return {release.image: release for release in served if release.image in newest}


def superfluous(mine: Sequence[Revision], others: Iterable[Sequence[Revision]], *, keep: int) -> set[Digest]:
    """The images of `mine` that neither it nor one of the other histories keeps."""
    wanted = set(kept(mine, keep)).union(*(kept(history, keep) for history in others))
    return {revision.release.image for revision in mine} - wanted


def kept_models(histories: Iterable[Sequence[Revision]], *, keep: int) -> set[Digest]:
    """The contents of the models of all releases that one of the histories keeps."""
    return {release.model.digest for history in histories for release in kept(history, keep).values()}


def remove_old(
    client: docker.DockerClient,
    service: Service,
    *,
    keep: int,
    history: Callable[[Service], Sequence[Revision]],
    busy: Callable[[Service], bool],
    say: Say,
) -> None:
    """Remove images and models of the service's older releases, unless another service of the app keeps them.

    `busy` says whether a rollout of another service is going on.
    """
    try:
        mine = history(service)
        models = superfluous_models(client, service.app, kept_models([mine], keep=keep))
        if not models and not _references(client, superfluous(mine, (), keep=keep)):
            return
        others = [other for other in services_of(client, service.app) if str(other) != str(service)]
        if any(busy(other) for other in others):
            say("another rollout of the app is going on: the next one removes what older releases left")
            return
        histories = list(map(history, others))
        remove_models(client, service.app, keep=kept_models([mine, *histories], keep=keep), say=say)
        found = _references(client, superfluous(mine, histories, keep=keep))
        if found:
            say(f"removing images of older releases from the engine: {len(found)}")
        for reference in found:
            _remove(client, reference, say)
    except (DockerException, requests.RequestException, RuntimeUnavailable) as error:
        say(f"images and models of older releases stay on the engine: {_reason(error)}")


def remove_refused(client: docker.DockerClient, reference: str, *, say: Say) -> None:
    """Remove the image of a candidate that will not become a release; `reference` is by digest.

    Anything else is somebody's own image, and stays. So does one that runs somewhere.
    """
    if "@sha256:" not in reference:
        return
    try:
        _remove(client, reference, say)
    except (DockerException, requests.RequestException) as error:
        say(f"{reference} stays on the engine: {_reason(error)}")


def keep_newest_model(client: docker.DockerClient, app: str, content: Digest, *, say: Say) -> None:
    """On an engine where the app is only tested, no other model stays; else its rollouts see to that."""
    try:
        if not services_of(client, app):
            remove_models(client, app, keep=[content], say=say)
    except (DockerException, requests.RequestException) as error:
        say(f"models of older releases stay on the engine: {_reason(error)}")


def services_of(client: docker.DockerClient, app: str) -> list[Service]:
    """The app in all environments that it is in on this engine; another app never has the same image."""
    volumes = client.volumes.list(filters={"label": [f"{plan.APP}={app}", f"{plan.ROLE}=state"]})
    names = {str((volume.attrs.get("Labels") or {}).get(plan.ENVIRONMENT)) for volume in volumes}
    return [Service(app=app, environment=name) for name in sorted(names)]


def _references(client: docker.DockerClient, digests: set[Digest]) -> list[str]:
    """What the engine calls these images: one name by digest for every repository they were pulled from."""
    if not digests:
        return []
    names = [name for image in client.api.images() for name in image.get("RepoDigests") or ()]
    return sorted(name for name in names if name.rpartition("@")[2] in digests)


def _remove(client: docker.DockerClient, reference: str, say: Say) -> None:
    try:
        client.api.remove_image(reference)
    except NotFound:
        return  # somebody else did
    except APIError as error:
        say(f"{reference} stays on the engine: {_reason(error)}")


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "explanation", "") or error).split())[:300]
