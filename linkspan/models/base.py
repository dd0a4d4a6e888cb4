"""What the flows ask of published models, whatever their layout: what is newest, and its exact bytes."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Protocol

from pydantic import Field, StringConstraints

from linkspan.errors import ModelCorrupt, ModelNotFound
from linkspan.nouns import Model, ModelFile, Name, Noun, RelativePath, content_of
from linkspan.progress import Progress
from linkspan.stores.base import StoredObject


class Pinned(Noun):
    """A version of a model as it is at one moment.

    `version` is empty and `model` None for plain objects until `identify` has hashed them. `fingerprint` is
    an identity that costs no reading: the hex SHA-256 of the version's manifest, or of the plain objects'
    keys and pins. `files` are those of `model`; `objects` says where the bytes of each of its paths are.
    """

    name: Name
    version: str
    fingerprint: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    model: Model | None = None
    files: tuple[ModelFile, ...] = ()
    objects: Mapping[RelativePath, StoredObject] = Field(min_length=1)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(obj.size for obj in self.objects.values())


class ModelStore(Protocol):
    """The versions of one model. Calls raise StoreError as the ObjectStore below does, and what they say."""

    @property
    def name(self) -> str: ...

    @property
    def url(self) -> str:
        """Where it is, for people, without secrets."""
        ...

    def newest(self) -> Pinned | None:
        """The newest version, None if there is none. Raises ModelNotFound or ModelCorrupt as `get` does."""
        ...

    def versions(self) -> list[str]:
        """All versions, newest first, at the cost of one listing. Empty for plain objects: see `newest`."""
        ...

    def mark(self) -> str:
        """A word that is another one whenever `newest` may be; empty while there is nothing.

        Costs one listing, or one HEAD per plain object: for those who only want to know whether to look.
        """
        ...

    def get(self, version: str) -> Pinned:
        """That version. Raises ModelNotFound (naming what is there, or the missing file) and ModelCorrupt."""
        ...

    def read(self, pinned: Pinned, file: ModelFile | str) -> Iterator[bytes]:
        """The bytes of one file (itself or its path), in constant memory, checked if its digest is known.

        Raises ModelCorrupt after the last byte when the digest is another one, so whoever passes bytes on
        must commit them only after the iterator ended by itself. Raises ObjectChanged.
        """
        ...


def identify(store: ModelStore, pinned: Pinned, *, progress: Progress | None = None) -> Pinned:
    """`pinned` with its `model` filled in.

    Published versions have it. Plain objects are read once; their version is `c` and the first 12 hex digits
    of the content's digest, so the same bytes are the same version wherever they lie. Raises ObjectChanged.
    """
    if pinned.model is not None:
        return pinned
    files = []
    for path, obj in sorted(pinned.objects.items()):
        hashed = hashlib.sha256()
        for chunk in store.read(pinned, path):
            hashed.update(chunk)
            if progress:
                progress(len(chunk))
        files.append(ModelFile(path=path, size=obj.size, sha256=hashed.hexdigest()))
    digest = content_of(files)
    version = "c" + digest.removeprefix("sha256:")[:12]
    model = Model(name=pinned.name, version=version, digest=digest, size=pinned.size, file_count=len(files))
    return pinned.model_copy(update={"version": version, "model": model, "files": tuple(files)})


def no_such_file(pinned: Pinned, path: str) -> ModelNotFound:
    """The error for a path that a pinned version does not have."""
    first = sorted(pinned.objects)[:10]
    return ModelNotFound(
        f"model {pinned.name} {pinned.version}".strip() + f" has no file {path}",
        found=", ".join(first) + (" …" if len(pinned.objects) > len(first) else ""),
    )


def verified(chunks: Iterator[bytes], file: ModelFile, where: str) -> Iterator[bytes]:
    """`chunks`, counted and hashed as they pass. Raises ModelCorrupt if they are not `file`."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        digest.update(chunk)
        if size > file.size:
            break
        yield chunk
    if size != file.size:
        raise ModelCorrupt(
            f"{where} has the wrong size",
            expected=f"{file.size} bytes",
            found=f"{size}{' or more' if size > file.size else ''}",
            fix="Publish a new version from the original files",
        )
    if digest.hexdigest() != file.sha256:
        raise ModelCorrupt(
            f"{where} does not hold the bytes that were published",
            expected=f"SHA-256 {file.sha256}",
            found=digest.hexdigest(),
            fix="Delete that object, then publish a new version from the original files",
        )
