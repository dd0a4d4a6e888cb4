"""The blobs of a repository. A big one is sent in one pass: POST, PATCH while hashing, PUT with the digest.

OCI distribution-spec, "Pushing a blob in chunks". One PATCH and no Content-Range: registries disagree about
ranges and about the length of chunks, and all understand a single body of known length.
"""

import contextlib
import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import httpx

from linkspan.errors import DigestMismatch, RegistryError, RegistryFull, RegistryUnavailable
from linkspan.nouns import Digest, sha256, short
from linkspan.registry.transport import Answer, Transport

_OCTETS = {"Content-Type": "application/octet-stream"}
_SMALL = 8 << 20
# How much is filled with zeros to end a failed upload in good order, see _Hashed.
_FILL = 16 << 20


class Blobs:
    """What `Registry` knows of blobs; its docstring says what every call raises.

    `name` is host and repository, as Docker writes them: `host/prefix/app`.
    """

    def __init__(self, name: str, transport: Transport) -> None:
        self.name = name
        self._transport = transport

    def blob_size(self, digest: Digest) -> int | None:
        """Bytes of a blob, None if it is not there."""
        answer = self._transport.call(
            "HEAD", f"blobs/{digest}", what=f"looking for blob {short(digest)}", expect=(200, 404)
        )
        length = answer.headers.get("content-length", "")
        return int(length) if answer.status == 200 and length.isdigit() else None

    def blob(self, digest: Digest, *, cap: int = _SMALL) -> bytes:
        """A small blob, at most `cap` bytes. Raises DigestMismatch."""
        answer = self._transport.call(
            "GET", f"blobs/{digest}", what=f"reading blob {short(digest)}", expect=(200,), cap=cap
        )
        if (found := sha256(answer.content)) != digest:
            raise DigestMismatch(f"blob {digest} of {self.name}", expected=digest, found=found)
        return answer.content

    def push_blob(self, data: bytes) -> Digest:
        """Store a small blob; one that is there already is not sent."""
        digest = sha256(data)
        if self.blob_size(digest) is not None:
            return digest
        # In POST and PUT, tried again as a whole, because its bytes are at hand.
        for last in (False, False, True):
            session = self._start_upload()
            try:
                self._put(session, digest, data, what=f"pushing blob {short(digest)}")
            except RegistryUnavailable:
                if last:
                    raise
            except BaseException:
                self._cancel(session)
                raise
            else:
                break
        return digest

    @contextlib.contextmanager
    def reading(self, digest: Digest) -> Iterator[Iterator[bytes]]:
        """The bytes of a blob of any size; at their end DigestMismatch if they are others."""
        with self._transport.reading(f"blobs/{digest}", what=f"reading blob {short(digest)}") as chunks:
            yield self._verified(digest, chunks)

    def _verified(self, digest: Digest, chunks: Iterator[bytes]) -> Iterator[bytes]:
        hashed = hashlib.sha256()
        for chunk in chunks:
            hashed.update(chunk)
            yield chunk
        if (found := "sha256:" + hashed.hexdigest()) != digest:
            raise DigestMismatch(f"blob {digest} of {self.name}", expected=digest, found=found)

    def push_stream(
        self, chunks: Iterator[bytes], size: int, *, progress: Callable[[int], None] | None = None
    ) -> tuple[Digest, int]:
        """`stage` and `commit` in one: the blob's digest and size."""
        staged = self.stage(chunks, size, progress=progress)
        self.commit(staged)
        return staged.digest, size

    def stage(
        self, chunks: Iterator[bytes], size: int, *, progress: Callable[[int], None] | None = None
    ) -> "Staged":
        """Send `size` bytes in one pass and constant memory, for `commit` to make a blob of or `discard`.

        `progress` gets the number of further bytes that passed. If the producer fails, its error comes out
        and the registry keeps nothing. Raises DigestMismatch if the producer gives more or fewer bytes. Not
        tried again in here: the bytes have passed.
        """
        hashed = _Hashed(chunks, size, progress)
        session = self._start_upload()
        try:
            answer = self._transport.call(
                "PATCH",
                session,
                what="sending a blob",
                expect=(202, 204),
                body=iter(hashed),
                headers=_OCTETS | {"Content-Length": str(size)},
            )
            session = self._location(answer) or session
            if hashed.error:
                raise hashed.error
            # A registry may answer before it has the whole body; only one that went out whole has a digest.
            if hashed.passed != size:
                raise RegistryUnavailable(
                    f"registry {self._transport.host} ended an upload early",
                    expected=f"{size} bytes",
                    found=hashed.passed,
                )
        except BaseException as error:
            cause = hashed.error or self._full_disk(error) or error
            self._cancel(session)
            if cause is error:
                raise
            raise cause from cause.__cause__
        finally:
            hashed.close()
        return Staged(session, hashed.digest, size)

    def commit(self, staged: "Staged") -> None:
        """Make a blob of what was staged. If that fails the registry keeps nothing."""
        try:
            self._finish(staged.session, staged.digest, staged.size)
        except BaseException as error:
            full = self._full_disk(error)
            self._cancel(staged.session)
            if full:
                raise full from None
            raise

    def discard(self, staged: "Staged") -> None:
        """Give up what was staged; the registry frees its bytes, now or later."""
        self._cancel(staged.session)

    def _start_upload(self) -> httpx.URL:
        """Open an upload session: the address of what comes next."""
        answer = self._transport.call("POST", "blobs/uploads/", what="starting an upload", expect=(202,))
        location = self._location(answer)
        if location is None:
            raise RegistryError(f"registry {self._transport.host} started an upload without a Location")
        return location

    def _location(self, answer: Answer) -> httpx.URL | None:
        location = answer.headers.get("location")
        return self._transport.url(httpx.URL(location)) if location else None

    def _put(self, session: httpx.URL, digest: Digest, data: bytes, *, what: str) -> None:
        """Close an upload session with its last bytes; the registry checks the digest."""
        self._transport.call(
            "PUT",
            session.copy_merge_params({"digest": digest}),
            what=what,
            expect=(201, 202, 204),
            body=data,
            headers=_OCTETS | {"Content-Length": str(len(data))},
            attempts=1,
        )

    def _finish(self, session: httpx.URL, digest: Digest, size: int) -> None:
        what = f"finishing the upload of blob {short(digest)}"
        try:
            self._put(session, digest, b"", what=what)
        except RegistryUnavailable:
            # The answer may be what was lost, not the blob.
            if self.blob_size(digest) != size:
                raise
        # Some registries accept what arrived, not what was sent (reported of ECR): ask what is there.
        found = self.blob_size(digest)
        if found != size:
            where = f"{what} at registry {self._transport.host}"
            raise DigestMismatch(where, expected=f"{size} bytes", found=found)

    def _cancel(self, session: httpx.URL) -> None:
        """Give up a session, so that the registry frees its bytes; one that cannot frees them later."""
        expect = (200, 202, 204, 404, 405)
        with contextlib.suppress(RegistryError):
            self._transport.call("DELETE", session, what="cancelling an upload", expect=expect, attempts=1)

    def _full_disk(self, error: BaseException) -> RegistryFull | None:
        """Whether a broken upload was broken by a full disk.

        The registry then often hangs up in the middle of the body, so that its answer is lost; asked for a
        new session, before the old one is given up and its bytes are freed, it says so.
        """
        if isinstance(error, RegistryUnavailable):
            try:
                self._cancel(self._start_upload())
            except RegistryFull as full:
                return full
            except RegistryError:
                return None
        return None


@dataclass(frozen=True)
class Staged:
    """A blob whose bytes a registry has, and which is not there yet: an upload session before its end."""

    session: httpx.URL
    digest: Digest
    size: int


class _Hashed:
    """Chunks on their way out: hashed, counted, and held to the announced size.

    When the producer fails near the end, the rest is zeros, because Distribution 2.8 cannot cancel a session
    whose body broke off (BLOB_UPLOAD_INVALID; its bytes stay for a week). `error` then says what happened,
    and the upload is cancelled, not finished.
    """

    def __init__(self, chunks: Iterator[bytes], size: int, progress: Callable[[int], None] | None) -> None:
        self.error: BaseException | None = None
        self.passed = 0
        self._chunks = chunks
        self._size = size
        self._progress = progress
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> Digest:
        return "sha256:" + self._hash.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._checked()
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            missing = self._size - self.passed
            if missing > _FILL or not isinstance(error, Exception):
                raise
            yield bytes(missing)

    def _checked(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            if self.passed + len(chunk) > self._size:
                raise self._wrong(f"{self.passed + len(chunk)} bytes or more")
            self.passed += len(chunk)
            self._hash.update(chunk)
            yield chunk
            if self._progress:
                self._progress(len(chunk))
        if self.passed != self._size:
            raise self._wrong(f"{self.passed} bytes")

    def close(self) -> None:
        """Let the producer go: it may hold a connection to a store."""
        if isinstance(self._chunks, Generator):
            self._chunks.close()

    def _wrong(self, found: str) -> DigestMismatch:
        return DigestMismatch("length of a streamed layer", expected=f"{self._size} bytes", found=found)
