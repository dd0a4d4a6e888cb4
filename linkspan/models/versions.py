"""The published layout: immutable versions over content-addressed files.

    <name>/blobs/sha256/<hex>        a file's bytes, shared by all versions that have it
    <name>/versions/<version>.json   the version's Published as canonical JSON, put last

The manifest is the commit point: a version whose manifest is not there does not exist.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256

from pydantic import Field, FiniteFloat, ValidationError

from linkspan.errors import ConfigError, ModelCorrupt, ModelNotFound, ObjectNotFound
from linkspan.models.base import Pinned, no_such_file, verified
from linkspan.nouns import Model, ModelFile, Name, Noun, Signature, version_order
from linkspan.stores.base import ObjectStore, StoredObject

# A manifest names files; one of this size would name a hundred thousand. Nothing bigger is read into memory.
_MANIFEST_LIMIT = 16 << 20


def versions_prefix(name: str) -> str:
    return f"{name}/versions/"


def manifest_key(name: str, version: str) -> str:
    return f"{name}/versions/{version}.json"


def blob_key(name: str, hex_digest: str) -> str:
    return f"{name}/blobs/sha256/{hex_digest}"


class Published(Noun):
    """A version as it is published: its files, and what was said of it."""

    name: Name
    version: str
    files: tuple[ModelFile, ...]
    metrics: Mapping[str, FiniteFloat] = Field(default_factory=dict)
    signature: Signature | None = None
    published_by: str = ""
    published_at: datetime | None = None

    def model(self) -> Model:
        """The version in short. Raises ValidationError for one that says too much of itself."""
        return Model.model_validate(dict(self))


def manifest_bytes(manifest: Published) -> bytes:
    """The manifest as canonical JSON: sorted keys, no spaces, UTF-8, one newline at the end."""
    document = manifest.model_dump(mode="json")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def newest_first(versions: Iterator[str] | list[str]) -> list[str]:
    """Versions by nouns.version_order, newest first; those that have no order are left out.

    `v1.0` and `v1` are equal in that order, and publishing refuses the second; the name decides if two
    publishers did it at the same moment, so that everyone sees the same order.
    """
    ordered = []
    for version in versions:
        try:
            ordered.append((version_order(version), version))
        except ConfigError:
            continue  # a file that `publish` cannot have made, such as notes.json
    return [version for _, version in sorted(ordered, reverse=True)]


class PublishedModels:
    """ModelStore over the published layout."""

    def __init__(self, objects: ObjectStore, name: str) -> None:
        self.name = name
        self._objects = objects
        # Of the model that is read now: to look for each of many files among all of them takes minutes.
        self._listed: tuple[Sequence[ModelFile], dict[str, ModelFile]] = ((), {})

    @property
    def url(self) -> str:
        return f"{self._objects.url}/{self.name}"

    def versions(self) -> list[str]:
        prefix = versions_prefix(self.name)
        names = (obj.key.removeprefix(prefix) for obj in self._objects.list(prefix))
        return newest_first([name.removesuffix(".json") for name in names if name.endswith(".json")])

    def mark(self) -> str:
        """Of all versions, not only of the newest: one that was mended or removed counts too."""
        found = sorted((obj.key, obj.pin) for obj in self._objects.list(versions_prefix(self.name)))
        return sha256(repr(found).encode()).hexdigest() if found else ""

    def newest(self) -> Pinned | None:
        versions = self.versions()
        return self.get(versions[0]) if versions else None

    def get(self, version: str) -> Pinned:
        version_order(version)
        key = manifest_key(self.name, version)
        try:
            manifest = self._objects.head(key)
        except ObjectNotFound:
            there = self.versions()  # raises for a bucket that is not there
            raise ModelNotFound(
                f"model {self.name} has no version {version} in {self._objects.url}",
                found=", ".join(there[:10]) or "no version at all",
                fix="Publish it with `linkspan publish`, or name one of those",
            ) from None
        data = self._manifest(manifest)
        said, model = _parse(data, key, self.name, version)
        keys = [blob_key(self.name, file.sha256) for file in said.files]
        unique = sorted(set(keys))
        found = dict(zip(unique, self._objects.head_all(unique), strict=True))
        objects = {
            file.path: _checked(found[blob], file, f"{self.name} {version}", blob)
            for file, blob in zip(said.files, keys, strict=True)
        }
        return Pinned(
            name=self.name,
            version=version,
            fingerprint=sha256(data).hexdigest(),
            model=model,
            files=said.files,
            objects=objects,
        )

    def read(self, pinned: Pinned, file: ModelFile | str) -> Iterator[bytes]:
        path = file if isinstance(file, str) else file.path
        listed = self._files(pinned).get(path)
        if listed is None:
            raise no_such_file(pinned, path)
        obj = pinned.objects[path]
        where = f"{path} of {pinned.name} {pinned.version} ({obj.key})"
        return verified(self._objects.read(obj), listed, where)

    def _files(self, pinned: Pinned) -> dict[str, ModelFile]:
        of, files = self._listed
        if of is not pinned.files:
            files = {file.path: file for file in pinned.files}
            self._listed = pinned.files, files
        return files

    def _manifest(self, manifest: StoredObject) -> bytes:
        if manifest.size > _MANIFEST_LIMIT:
            raise ModelCorrupt(
                f"{manifest.key} is too big for a manifest",
                expected=f"at most {_MANIFEST_LIMIT} bytes",
                found=manifest.size,
            )
        return b"".join(self._objects.read(manifest))


def _parse(data: bytes, key: str, name: str, version: str) -> tuple[Published, Model]:
    try:
        manifest = Published.model_validate_json(data)
        model = manifest.model() if manifest.files else None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelCorrupt(
            f"{key} is not a version's manifest: {where + ': ' if where else ''}{first['msg']}",
            fix="Delete that object and publish the version again, with `linkspan publish`",
        ) from None
    if (manifest.name, manifest.version) != (name, version):
        raise ModelCorrupt(
            f"{key} describes another version",
            expected=f"{name} {version}",
            found=f"{manifest.name} {manifest.version}",
            fix="Manifests must not be copied or renamed: publish the files again",
        )
    if model is None or len({file.path for file in manifest.files}) != model.file_count:
        raise ModelCorrupt(f"{key} names {'a file twice' if model else 'no file'}")
    return manifest, model


def _checked(found: StoredObject | None, file: ModelFile, what: str, key: str) -> StoredObject:
    if found is None:
        raise ModelNotFound(
            f"{file.path} of model {what} is missing in the store",
            expected=f"an object {key}",
            fix="Publish a new version from the original files",
        )
    if found.size != file.size:
        raise ModelCorrupt(
            f"{file.path} of model {what} has the wrong size ({key})",
            expected=f"{file.size} bytes",
            found=found.size,
            fix="Delete that object, then publish a new version from the original files",
        )
    return found
