"""What was refused for good, and why, kept where everything else is kept: in the registry.

A rejection is an artifact without content (artifact.py) under a tag that follows from its key: one request
tells a flow that nothing was said of a pair. What is said later of the same key, and that it is pardoned, is
the next of a series (series.py).
"""

from datetime import UTC, datetime

from pydantic import ValidationError

from linkspan.errors import LinkspanError, RegistryError, RegistryNotFound
from linkspan.ledger import series
from linkspan.ledger.artifact import push_artifact
from linkspan.ledger.tags import rejection_tag
from linkspan.ledger.values import Rejection
from linkspan.nouns import Digest
from linkspan.progress import Say
from linkspan.registry import media
from linkspan.registry.client import Registry

_REASON_CAP = 2048
_PREFIX = "dev.linkspan.rejection."
_PARDONED = _PREFIX + "pardoned"


def reject(registry: Registry, key: str, what: str, reason: str, *, at: datetime | None = None) -> Rejection:
    """Remember that `key` is bad; `reason` is cut to 2 KB. Errors are the registry's."""
    verdict = Rejection(key=key, what=what, reason=_cut(reason), at=at or datetime.now(UTC))
    fields = verdict.model_dump(mode="json")
    _put(registry, key, {f"{_PREFIX}{field}": str(value) for field, value in fields.items()})
    return verdict


def note(registry: Registry, key: str, what: str, error: LinkspanError, *, say: Say) -> bool:
    """`reject` for an error that is about to be raised, which a registry that takes no verdict must not hide.

    Whether it is remembered; if not, `say` is told.
    """
    try:
        reject(registry, key, what, str(error))
    except RegistryError as unheard:
        say(f"That {what} is refused cannot be noted, so it will be tried again: {unheard}")
        return False
    return True


def rejection(registry: Registry, key: str) -> Rejection | None:
    """Why `key` was refused; None if it was not, or was pardoned."""
    _, digest = series.last(registry, rejection_tag(key))
    return _read(registry, key, digest) if digest else None


def _read(registry: Registry, key: str, digest: Digest) -> Rejection | None:
    """What was said last of `key`; None if it is a pardon, or nothing of ours."""
    try:
        document = registry.manifest(digest).document
    except RegistryNotFound:
        return None  # pardoned just now
    notes = document.get("annotations") or {}
    if _PARDONED in notes:
        return None
    fields = {name: notes.get(_PREFIX + name) for name in Rejection.model_fields}
    try:
        verdict = Rejection.model_validate(fields)
    except ValidationError:
        return None  # somebody else's artifact says nothing about our key
    return verdict if verdict.key == key else None


def pardon(registry: Registry, key: str) -> None:
    """Forget a rejection; one that is not there is not an error. Errors are the registry's."""
    while True:
        _, digest = series.last(registry, rejection_tag(key))
        if digest is None or not _read(registry, key, digest):
            return
        if registry.delete_manifest(digest) and registry.exists(digest) is None:
            continue  # what was said before it counts now
        # Many registries delete nothing, or not now.
        pardoned = {_PREFIX + "key": key, _PARDONED: "true", _PREFIX + "of": digest}
        _put(registry, key, pardoned)
        return


def _cut(reason: str) -> str:
    """The start, which names the thing, and the end, where the output of a test says what failed."""
    data = reason.encode()
    if len(data) <= _REASON_CAP:
        return reason
    gap = "\n…\n"
    head, tail = data[: _REASON_CAP // 4], data[-(_REASON_CAP * 3 // 4 - len(gap.encode())) :]
    return head.decode(errors="ignore") + gap + tail.decode(errors="ignore")


def _put(registry: Registry, key: str, annotations: dict[str, str]) -> None:
    digest = push_artifact(registry, media.REJECTION, annotations=annotations)
    series.add(registry, rejection_tag(key), digest)
