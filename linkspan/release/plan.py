"""A linked pair before anybody tried it, and what should happen to it. Everything here is values."""

from linkspan.config import AppConfig
from linkspan.ledger.values import CodeImage
from linkspan.nouns import Layer, Model, Noun, Release, Revision
from linkspan.registry.media import Document, Image
from linkspan.release.converge import Decision
from linkspan.release.link import link


class Candidate(Noun):
    """A linked pair. `reference` is the image by digest, as an engine pulls it.

    `objects` are the app's own Kubernetes objects, if it has any.
    """

    release: Release
    config: AppConfig
    reference: str
    objects: tuple[Document, ...] = ()


class Plan(Noun):
    """A candidate, what is live, and what should happen. `pushed` is what the link cost, in bytes."""

    decision: Decision
    candidate: Candidate
    live: Revision | None
    pushed: int = 0


def propose(
    repository: str, image: Image, code: CodeImage, model: Model, layer: Layer
) -> tuple[Candidate, Image]:
    """The pair as a candidate of `repository`, and its image. The same pair is the same digest."""
    linked = link(image, code, model, layer)
    release = Release(app=code.config.name, commit=code.commit, model=model, image=linked.digest)
    reference = f"{repository}@{linked.digest}"
    return (
        Candidate(release=release, config=code.config, reference=reference, objects=code.objects),
        linked,
    )
