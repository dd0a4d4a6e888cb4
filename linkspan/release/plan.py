"""A linked pair before anybody tried it, and what should happen to it. Everything here is values."""

from linkspan.config import AppConfig
from linkspan.ledger.values import CodeImage
from linkspan.nouns import Model, Noun, Release, Revision
from linkspan.registry.media import Document
from linkspan.release.converge import Decision
from linkspan.release.layout import Stratum
from linkspan.release.link import Linked


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


def propose(repository: str, code: CodeImage, model: Model, linked: Linked) -> Candidate:
    """The pair as a candidate of `repository`."""
    return Candidate(
        release=Release(app=code.config.name, commit=code.commit, model=model, image=linked.image.digest),
        config=code.config,
        reference=f"{repository}@{linked.image.digest}",
        objects=code.objects,
        strata=linked.strata,
    )
