"""What Linkspan asks of a place that holds objects: seven calls, the same for a folder, Azure Blob and S3.

Everything above (published versions, plain objects, pinning, publishing) is written once, in
linkspan/models, over this protocol. tests/stores/test_conformance.py is its specification.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import Field

from linkspan.errors import ObjectChanged
from linkspan.nouns import Noun
from linkspan.progress import Progress

CHUNK = 1 << 20
"""Bytes read at a time, wherever model bytes are streamed."""


class StoredObject(Noun):
    """An object as it is at one moment. `pin` names exactly these bytes: an S3 version ID or an ETag."""

    key: str
    size: int = Field(ge=0)
    pin: str


class Upload(NamedTuple):
    """An object to be created: `size` bytes of `source`.

    `check` is called before they are read and again before the object appears; if it raises, there is none.
    """

    key: str
    source: Path | bytes
    size: int
    check: Callable[[], None] = lambda: None


class ObjectStore(Protocol):
    """A bucket, a container or a folder, below one prefix. Keys are relative and use `/`.

    Every call raises StoreUnavailable (retriable: network, 5xx, throttling), StoreDenied (credentials, with
    what to do) or ObjectNotFound (for a missing bucket or container too, naming it).
    """

    @property
    def url(self) -> str:
        """Where it is, for people, without secrets: `s3://models/team`, `file:///srv/models`."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose key starts with `prefix`, in key order. None is not an error."""
        ...

    def head(self, key: str) -> StoredObject:
        """The object as it is now; raises ObjectNotFound."""
        ...

    def head_all(self, keys: Sequence[str]) -> Sequence[StoredObject | None]:
        """What `head` returns for each key, in order, and None for one that is not there.

        Does not wait for one after the other: a model may have tens of thousands of files.
        """
        ...

    def read(self, obj: StoredObject) -> Iterator[bytes]:
        """The bytes that `obj.pin` names, in chunks of at most CHUNK, in constant memory.

        A broken connection is resumed where it broke. Raises ObjectChanged as soon as the pinned bytes can no
        longer be had, and never yields bytes of another version.
        """
        ...

    def put(self, key: str, source: Path | bytes, *, progress: Progress | None = None) -> StoredObject:
        """Create an object, atomically: it is absent until it is whole. Raises ObjectExists if it is there.

        Of several concurrent calls for one key exactly one succeeds. When it returns, the object survives a
        power cut; after one that came earlier it is there whole or not at all.
        """
        ...

    def put_missing(
        self, uploads: Sequence[Upload], *, progress: Progress | None = None
    ) -> Sequence[StoredObject]:
        """Create the objects that are not there, as `put` does, and return the others as they are.

        Each has a key of its own. Small ones are created several at once; `progress` is called by one thread
        at a time. When it returns, all of them survive a power cut, also those that were there. Raises the
        first failure once nothing runs any more; the same call may then be made again and does the rest.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is not an error."""
        ...


def changed(key: str, *, expected: str = "") -> ObjectChanged:
    """The error of a read whose pinned bytes can no longer be had."""
    return ObjectChanged(
        f"{key} was overwritten or removed while it was read",
        expected=expected,
        fix="Run again to take what is there now; publish new versions instead of overwriting",
    )
