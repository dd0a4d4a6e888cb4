"""What the ledger says, as values: the two halves of a release, where they meet, and what was refused."""

from collections.abc import Mapping
from datetime import datetime
from typing import Self, TypeVar

from pydantic import Field

from linkspan.config import AppConfig
from linkspan.errors import LinkspanError
from linkspan.nouns import Commit, Digest, Model, Noun
from linkspan.registry.media import Document

E = TypeVar("E", bound=LinkspanError)

_NAMED = 3  # of what is in the way, enough to know the kind


class CodeImage(Noun):
    """A tested code image, as its labels say.

    `commit` is the one it was built from: the oldest with the same tree. `objects` are the app's own
    Kubernetes objects, if it has any.
    """

    commit: Commit
    config: AppConfig
    digest: Digest
    objects: tuple[Document, ...] = ()


class Directory(Noun):
    """A directory's permission bits and owner, as a layer's tar says them."""

    mode: int = Field(default=0o755, ge=0, le=0o7777)
    uid: int = Field(default=0, ge=0)
    gid: int = Field(default=0, ge=0)


class MountPoint(Noun):
    """What the layers of a code image hold where the model goes.

    `directories` are the model's folder, what it is in, and what is in it, by absolute path, as the topmost
    layer has them. `obstacles` are sentences about what must not be there: a file or a deletion below the
    folder, or anything but a directory on the way to it. Then the order of the layers would decide what the
    container sees.
    """

    directories: Mapping[str, Directory] = Field(default_factory=dict)
    obstacles: tuple[str, ...] = ()

    def below(self, upper: Self) -> Self:
        """Both, with `upper` unpacked on top."""
        obstacles = tuple(dict.fromkeys((*self.obstacles, *upper.obstacles)))[:_NAMED]
        return type(self)(directories={**self.directories, **upper.directories}, obstacles=obstacles)


def no_room(kind: type[E], what: str, folder: str, found: str) -> E:
    """The error for a code image that cannot take a model at `folder`."""
    return kind(
        f"{what} has no room for the model at {folder}",
        expected="an empty folder or none there, and nothing but directories on the way",
        found=found,
        fix=f"Keep {folder} out of the image (Dockerfile, .dockerignore), or move model.path",
    )


class PackagedModel(Noun):
    """A validated model whose layers are in the registry; `manifest` is the digest of its ModelPack manifest.

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
