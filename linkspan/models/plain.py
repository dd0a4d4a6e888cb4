"""Plain objects as a model: a data scientist overwrites `model.onnx`, and that is the whole publishing.

The version comes from the content, so it is known only once the bytes were read; until then the objects' pins
tell whether anything changed.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256

from pydantic import TypeAdapter, ValidationError

from linkspan.errors import ConfigError, ModelNotFound
from linkspan.models.base import Pinned, identify, no_such_file, verified
from linkspan.nouns import ModelFile, RelativePath
from linkspan.stores.base import ObjectStore


def parse_plain(entries: Sequence[str]) -> dict[str, str]:
    """Paths in the model to keys in the store, from `key` (the path is its last part) or `path=key`.

    Raises ConfigError for an entry that is neither, or two of the same path.
    """
    plain: dict[str, str] = {}
    for entry in entries:
        path, given, key = entry.partition("=")
        if not given:
            path, key = entry.rpartition("/")[2], entry
        try:
            TypeAdapter(RelativePath).validate_python(path)
        except ValidationError:
            path = ""
        if not path or not key.strip("/"):
            raise ConfigError(
                f"plain object {entry!r} cannot be read",
                expected="key or path=key, for example labels.txt=meta/synset.txt",
            )
        if path in plain:
            raise ConfigError(
                f"two plain objects would both be {path} in the model",
                found=f"{plain[path]} and {key}",
                fix="Give one of them another path: path=key",
            )
        plain[path] = key
    return plain


class PlainObjects:
    """ModelStore over objects that are overwritten in place.

    Objects that belong together cannot be replaced in one step, so a run may see the new model beside the old
    labels; it is then a version of its own, and the next run takes the finished pair.
    """

    def __init__(self, objects: ObjectStore, name: str, entries: Sequence[str]) -> None:
        self.name = name
        self._objects = objects
        self._plain = parse_plain(entries)

    @property
    def url(self) -> str:
        return self._objects.url

    def versions(self) -> list[str]:
        return []

    def newest(self) -> Pinned | None:
        """The objects as they are now; None if none is there. Raises ModelNotFound if only some are."""
        keys = list(self._plain.values())
        found = self._objects.head_all(keys)
        missing = [key for key, one in zip(keys, found, strict=True) if one is None]
        if len(missing) == len(keys):
            # Nothing published yet is no error, but a store that is not there is one; a listing tells.
            next(iter(self._objects.list(keys[0])), None)
            return None
        if missing:
            raise ModelNotFound(
                f"model {self.name} is incomplete in {self.url}",
                expected=", ".join(keys),
                found=f"no {', '.join(missing)}",
                fix="Upload what is missing, or correct the plain objects in the block",
            )
        objects = {path: one for path, one in zip(self._plain, found, strict=True) if one is not None}
        lines = sorted(f"{path}\0{obj.key}\0{obj.size}\0{obj.pin}\n" for path, obj in objects.items())
        fingerprint = sha256("".join(lines).encode()).hexdigest()
        return Pinned(name=self.name, version="", fingerprint=fingerprint, objects=objects)

    def mark(self) -> str:
        """Empty too while only some of the objects are there: the rest is on its way."""
        try:
            found = self.newest()
        except ModelNotFound:
            return ""
        return found.fingerprint if found else ""

    def get(self, version: str) -> Pinned:
        """The objects, if their content is that version now; this reads them. An older one is gone."""
        pinned = self.newest()
        there = identify(self, pinned) if pinned else None
        if there is None or there.version != version:
            raise ModelNotFound(
                f"model {self.name} {version} is not in {self.url}",
                found=there.version if there else "nothing",
                fix="Plain objects keep no history; upload that content again, or publish versions",
            )
        return there

    def read(self, pinned: Pinned, file: ModelFile | str) -> Iterator[bytes]:
        path = file if isinstance(file, str) else file.path
        if path not in pinned.objects:
            raise no_such_file(pinned, path)
        chunks = self._objects.read(pinned.objects[path])
        for known in pinned.files:
            if known.path == path:
                return verified(chunks, known, f"{path} of {pinned.name} {pinned.version}")
        return chunks
