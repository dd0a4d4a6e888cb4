"""A linked pair before anybody tried it, and what should happen to it. Everything here is values."""

from collections.abc import Collection, Sequence

from linkspan.config import AppConfig
from linkspan.ledger.values import CodeImage, MountPoint
from linkspan.nouns import Layer, Model, Noun, Release, Revision
from linkspan.registry.media import Document, Image
from linkspan.release.converge import Decision
from linkspan.release.layout import Stratum
from linkspan.release.link import link


class Candidate(Noun):
    """A linked pair. `reference` is the image by digest, as an engine pulls it.

    `objects` are the app's own Kubernetes objects, if it has any. `strata` are the image's layers, bottom
    first; none for a release that is only rolled out again.
    """

    release: Release
    config: AppConfig
    reference: str
    objects: tuple[Document, ...] = ()
    strata: tuple[Stratum, ...] = ()


class Plan(Noun):
    """A candidate, what is live, and what should happen. `pushed` is what the link cost, in bytes."""

    decision: Decision
    candidate: Candidate
    live: Revision | None
    pushed: int = 0


def propose(
    repository: str,
    image: Image,
    code: CodeImage,
    model: Model,
    layers: Sequence[Layer],
    *,
    found: MountPoint,
    paths: Collection[str] = (),
    directories: Layer | None = None,
) -> tuple[Candidate, Image]:
    """The pair as a candidate of `repository`, and its image (link.py). The same pair is the same digest."""
    linked = link(image, code, model, layers, found=found, paths=paths, directories=directories)
    release = Release(app=code.config.name, commit=code.commit, model=model, image=linked.image.digest)
    candidate = Candidate(
        release=release,
        config=code.config,
        reference=f"{repository}@{linked.image.digest}",
        objects=code.objects,
        strata=linked.strata,
    )
    return candidate, linked.image
