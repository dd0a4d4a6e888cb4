"""A linked pair before anybody tried it, and what should happen to it. Everything here is values."""

from linkspan.config import AppConfig
from linkspan.ledger.values import CodeImage
from linkspan.nouns import Digest, Model, Mount, Noun, Release, Revision
from linkspan.registry.media import Document
from linkspan.release.converge import Decision
from linkspan.release.layout import Stratum
from linkspan.release.link import Linked


class Candidate(Noun):
    """A linked pair. `reference` is the image by digest, as an engine pulls it.

    `objects` are the app's own Kubernetes objects, if it has any. `mount` is the model's image, if it is not
    among the layers; `unmounted` says why it is, where that was not the app's own choice. `strata` are the
    image's layers, bottom first; none for a release that is only rolled out again.
    """

    release: Release
    config: AppConfig
    reference: str
    objects: tuple[Document, ...] = ()
    mount: Mount | None = None
    unmounted: str = ""
    strata: tuple[Stratum, ...] = ()


class Plan(Noun):
    """A candidate, what is live, and what should happen. `pushed` is what the link cost, in bytes."""

    decision: Decision
    candidate: Candidate
    live: Revision | None
    pushed: int = 0


def propose(repository: str, code: CodeImage, model: Model, linked: Linked) -> Candidate:
    """The pair as a candidate of `repository`."""
    mounted = linked.mounted.digest if linked.mounted else None
    return Candidate(
        release=Release(app=code.config.name, commit=code.commit, model=model, image=linked.image.digest),
        config=code.config,
        reference=f"{repository}@{linked.image.digest}",
        objects=code.objects,
        mount=mount_of(repository, mounted, model, code.config),
        strata=linked.strata,
    )


def mount_of(repository: str, mounted: Digest | None, model: Model, config: AppConfig) -> Mount | None:
    """How a release mounts the image `mounted` of its model; None if it holds the model itself."""
    if mounted is None:
        return None
    return Mount(image=f"{repository}@{mounted}", content=model.digest, path=config.model.path)
