"""The bytes of a blob on their way out: hashed, counted, and the last of them kept in case they get lost."""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterator

from linkspan.errors import DigestMismatch
from linkspan.nouns import Digest

_KEPT = 32 << 20
"""Bytes: more than are on their way at a time, in sockets and in what a registry has not written yet.

Usually: kernels with a tcp_rmem of 32 MiB can hold more where a busy proxy reads late, and if it breaks then
the next try reads the source again from where the registry is (`Earlier`).
"""
# How much is filled with zeros to end a failed upload in good order, see `since`.
_FILL = 16 << 20


class Stream:
    """What a producer gives, once, held to the announced `size` in bytes.

    `error` says how the producer failed. What it gave last can be had again (`since`).
    """

    def __init__(
        self, chunks: Iterator[bytes], size: int, progress: Callable[[int], None] | None = None
    ) -> None:
        self.size = size
        self.passed = 0
        self.error: BaseException | None = None
        self._chunks = chunks
        self._progress = progress
        self._hash = hashlib.sha256()
        self._kept: deque[bytes] = deque()
        self._kept_from = 0

    @property
    def digest(self) -> Digest:
        """Of what has passed."""
        return "sha256:" + self._hash.hexdigest()

    def has(self, offset: int) -> bool:
        """Whether it can go on from there, an offset from its start."""
        return self._kept_from <= offset <= self.passed

    def since(self, offset: int, until: int) -> Iterator[bytes]:
        """The bytes from `offset`, which it `has`, up to `until`; a generator that may be given up anywhere.

        When the producer fails near the end, the rest is zeros, because Distribution 2.8 cannot cancel a
        session whose body broke off (BLOB_UPLOAD_INVALID; its bytes stay for a week). `error` then says what
        happened, and the upload is cancelled, not finished.
        """
        at = self._kept_from
        for chunk in tuple(self._kept):
            if at + len(chunk) > offset:
                yield chunk[max(0, offset - at) : until - at]
            at += len(chunk)
            if at >= until:
                return
        try:
            while self.passed < until:
                start = self.passed
                chunk = self._next()
                if self.passed > offset:
                    yield chunk[max(0, offset - start) : until - start]
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            missing = until - self.passed
            if missing > _FILL or not isinstance(error, Exception):
                raise
            yield bytes(missing)

    def skip(self, offset: int) -> None:
        """Let the bytes up to there pass unsent: a registry has them from an earlier try."""
        while self.passed < offset:
            self._next()

    def finish(self) -> None:
        """Hear the producer out: it may fail after its last byte. Raises DigestMismatch if it gives more."""
        if more := next(filter(None, self._chunks), b""):
            raise self._wrong(f"{self.passed + len(more)} bytes or more")

    def close(self) -> None:
        """Let the producer go: it may hold a connection to a store."""
        if isinstance(self._chunks, Generator):
            self._chunks.close()

    def _next(self) -> bytes:
        chunk = next(filter(None, self._chunks), b"")
        if not chunk:
            raise self._wrong(f"{self.passed} bytes")
        if self.passed + len(chunk) > self.size:
            raise self._wrong(f"{self.passed + len(chunk)} bytes or more")
        self.passed += len(chunk)
        self._hash.update(chunk)
        self._kept.append(chunk)
        while self.passed - self._kept_from - len(self._kept[0]) > _KEPT:
            self._kept_from += len(self._kept.popleft())
        if self._progress:
            self._progress(len(chunk))
        return chunk

    def _wrong(self, found: str) -> DigestMismatch:
        return DigestMismatch("length of a streamed layer", expected=f"{self.size} bytes", found=found)
