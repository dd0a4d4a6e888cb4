"""What the ledger says, as values: the two halves of a release, and what was refused."""

from datetime import datetime

from linkspan.config import AppConfig
from linkspan.nouns import Commit, Digest, Model, Noun
from linkspan.registry.media import Document


class CodeImage(Noun):
    """A tested code image, as its labels say.

    `commit` is the one it was built from: the oldest with the same tree. `objects` are the app's own
    Kubernetes objects, if it has any.
    """

    commit: Commit
    config: AppConfig
    digest: Digest
    objects: tuple[Document, ...] = ()


class PackagedModel(Noun):
    """A validated model whose layer is in the registry; `manifest` is the digest of its ModelPack manifest.

    `pushed` is what it cost to bring it there, in bytes.
    """

    model: Model
    manifest: Digest
    pushed: int = 0


class Rejection(Noun):
    """That `what` was refused, by which key it is known, and why."""

    key: str
    what: str
    reason: str
    at: datetime
