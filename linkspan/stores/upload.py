"""Cutting a source into the parts of a multipart upload, with one part in memory at a time."""

from collections.abc import Iterator
from pathlib import Path

from linkspan.errors import StoreError
from linkspan.progress import Progress

# S3 allows 10,000 parts, Azure 50,000 blocks; staying below the smaller number serves both.
MAX_PARTS = 9_000


def size_of(source: Path | bytes) -> int:
    """Bytes in `source`."""
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def whole(source: Path | bytes) -> bytes:
    """All of a small source."""
    return source if isinstance(source, bytes) else source.read_bytes()


def part_size(size: int, least: int) -> int:
    """Bytes for each part: `least`, or as many as keep the number of parts below MAX_PARTS."""
    return max(least, -(-size // MAX_PARTS))


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
        raise StoreError(
            f"{source.name} changed its size while it was uploaded",
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
