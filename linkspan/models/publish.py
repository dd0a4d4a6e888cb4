"""Publishing a version: files first, manifest last, so that nobody ever sees half of one."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from linkspan.errors import (
    ConfigError,
    ModelCorrupt,
    ObjectExists,
    VersionExists,
)
from linkspan.models.folder import LocalFile, collect, state
from linkspan.models.versions import Published, PublishedModels, blob_key, manifest_bytes, manifest_key
from linkspan.nouns import Model, Name, Signature, version_order
from linkspan.progress import Progress
from linkspan.stores.base import ObjectStore, Upload

# Everybody who loses the race for a number tries the next; that many publishers at once are nobody's.
_RACES = 50


def publish(
    objects: ObjectStore,
    name: str,
    path: Path,
    *,
    version: str | None = None,
    metrics: Mapping[str, float] | None = None,
    published_by: str = "",
    signature: Signature | None = None,
    progress: Progress | None = None,
    allow_older: bool = False,
) -> Model:
    """Publish the file or folder at `path` as a version of `name`, and return what was published.

    Without `version` it is the next whole number, `v<N+1>`. `progress` counts the bytes of all files; those
    that the store has already pass at once. May be called again after any interruption.

    Raises ConfigError (see `collect`; a bad name, version or metric; a version older than the newest unless
    `allow_older`), VersionExists, ModelCorrupt if the store holds other bytes under a file's digest, and
    StoreError.
    """
    _check(name, metrics or {})
    if version is not None:
        version_order(version)
    files = collect(path)
    store = PublishedModels(objects, name)
    # Asked before the upload, so that a refused version costs no gigabytes; the manifest decides.
    wanted = version or next_version(store)
    if version is not None:
        _check_version(store, version, allow_older)
    manifest = Published(
        name=name,
        version=wanted,
        files=tuple(local.file for local in files),
        metrics=dict(metrics or {}),
        signature=signature,
        published_by=published_by,
    )
    _in_short(manifest)
    _upload(objects, name, files, progress)
    for _ in range(_RACES):
        now = datetime.now(UTC).replace(microsecond=0)
        manifest = manifest.model_copy(update={"version": wanted, "published_at": now})
        try:
            objects.put(manifest_key(name, wanted), manifest_bytes(manifest))
        except ObjectExists:
            if version is not None:
                raise _exists(name, version, "published by somebody else meanwhile") from None
            wanted = next_version(store)
        else:
            return _in_short(manifest)
    raise VersionExists(
        f"model {name}: {_RACES} numbers in a row were taken by others", fix="Give a version yourself"
    )


def _in_short(manifest: Published) -> Model:
    try:
        return manifest.model()
    except ValidationError as error:
        raise ConfigError(
            f"model {manifest.name} {manifest.version} cannot be published: {error.errors()[0]['msg']}",
            fix="Keep what is long beside the model, in a file of its own",
        ) from None


def next_version(store: PublishedModels) -> str:
    """`v<N+1>`, after the newest version's first number; `v1` for the first."""
    versions = store.versions()
    return f"v{version_order(versions[0]).release[0] + 1}" if versions else "v1"


def _check(name: str, metrics: Mapping[str, float]) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise ConfigError(
            f"model name {name!r} cannot be used",
            expected="lower-case letters, digits and '-', at most 40, not '-' at an end",
        ) from None
    for metric, value in metrics.items():
        if not metric.isprintable() or not metric or not math.isfinite(value):
            raise ConfigError(
                f"metric {metric!r} has no usable value", expected="a finite number", found=value
            )


def _check_version(store: PublishedModels, version: str, allow_older: bool) -> None:
    there = store.versions()
    for other in there:
        if version_order(other) == version_order(version):
            same = (
                "it is there already" if other == version else f"{other} is there, which is the same version"
            )
            raise _exists(store.name, version, same)
    if there and not allow_older and version_order(version) < version_order(there[0]):
        raise ConfigError(
            f"model {store.name} {version} would be older than the newest, {there[0]}, and never be released",
            fix=f"Leave the version away to get {next_version(store)}, or say --allow-older",
        )


def _exists(name: str, version: str, why: str) -> VersionExists:
    return VersionExists(
        f"model {name} {version} cannot be published: {why}",
        fix="A version never changes: publish under the next one, or leave the version away",
    )


def _upload(objects: ObjectStore, name: str, files: Sequence[LocalFile], progress: Progress | None) -> None:
    local = {blob_key(name, each.file.sha256): each for each in files}
    sent = 0

    def count(more: int) -> None:
        nonlocal sent
        sent += more
        if progress:
            progress(more)

    # Bytes of a later moment must not lie under the digest of an earlier one: hence the check.
    uploads = [
        Upload(key, each.source, each.file.size, partial(_check_unchanged, each))
        for key, each in local.items()
    ]
    for there in objects.put_missing(uploads, progress=count):
        file = local[there.key].file
        if there.size != file.size:
            raise ModelCorrupt(
                f"the store holds other bytes for {file.path} ({there.key})",
                expected=f"{file.size} bytes",
                found=there.size,
                fix="Delete that object and publish again",
            )
    size = sum(each.file.size for each in files)
    if progress and sent < size:
        progress(size - sent)


def _check_unchanged(local: LocalFile) -> None:
    try:
        same = state(local.source) == local.state
    except OSError:
        same = False
    if not same:
        raise ConfigError(f"{local.source} changed while it was published", fix="Publish when it is finished")
