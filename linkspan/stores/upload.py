"""Uploads to a service: small ones several at once, a big one in parts, with one part in memory at a time."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from linkspan.errors import ConfigError, StoreError
from linkspan.progress import Progress
from linkspan.stores.base import StoredObject, Upload
from linkspan.stores.several import one_then_several, several

# S3 allows 10,000 parts, Azure 50,000 blocks; staying below the smaller number serves both.
MAX_PARTS = 9_000
# Up to here an upload is mostly waiting for answers; above, several at once would only share the line, take
# memory and keep Ctrl-C waiting.
SMALL = 4 << 20


def put_each(
    put: Callable[[Upload, Progress], StoredObject | None],
    uploads: Sequence[Upload],
    progress: Progress | None,
) -> list[StoredObject]:
    """What `put` returns for the uploads, without None: small ones go several at once, big ones in a row."""
    there = one_then_several(put, [upload for upload in uploads if upload.size <= SMALL], progress)
    for upload in uploads:
        if upload.size > SMALL:
            there += several(put, [upload], progress)
    return [found for found in there if found is not None]


def require_key(key: str) -> None:
    """Raises ConfigError for what a service would take for something else: its folder, or nothing."""
    if not key or key.endswith("/"):
        raise ConfigError(f"{key!r} cannot be a key", expected="a plain relative path with /")


def size_of(source: Path | bytes) -> int:
    """Bytes in `source`."""
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def part_size(size: int, least: int) -> int:
    """Bytes for each part: `least`, or as many as keep the number of parts below MAX_PARTS."""
    return max(least, -(-size // MAX_PARTS))


def one_part(upload: Upload) -> bytes:
    """All of a small upload's bytes. Raises StoreError if they are not `size` (any more)."""
    source = upload.source
    data = source if isinstance(source, bytes) else source.read_bytes()
    if len(data) != upload.size:
        raise _resized(upload.key, upload.size)
    return data


def parts(source: Path | bytes, size: int, each: int) -> Iterator[bytes]:
    """`source` in parts of `each` bytes. Raises StoreError if it is not `size` bytes long (any more)."""
    if isinstance(source, bytes):
        yield from (source[start : start + each] for start in range(0, size, each))
        return
    left = size
    with source.open("rb") as file:
        while part := file.read(each):
            left -= len(part)
            if left < 0:
                break
            yield part
    if left:
        raise _resized(source.name, size)


def _resized(name: str, size: int) -> StoreError:
    return StoreError(
        f"{name} changed its size while it was uploaded",
        expected=f"{size} bytes",
        fix="Publish a file that nobody writes to",
    )


class Meter:
    """Counts bytes of an upload that may start over, and reports each byte once."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._reported = 0
        self._passed = 0

    def restart(self) -> None:
        """The upload begins again at its first byte."""
        self._passed = 0

    def add(self, count: int) -> None:
        """`count` further bytes passed."""
        self._passed += count
        if self._progress and self._passed > self._reported:
            self._progress(self._passed - self._reported)
            self._reported = self._passed
