"""Sending a blob in one pass: POST, PATCH while hashing, PUT with the digest that was learned on the way.

OCI distribution-spec, "Pushing a blob in chunks". One PATCH and no Content-Range: registries disagree about
ranges and about the length of chunks, and all understand a single body of known length.
"""

import contextlib
import hashlib
from collections.abc import Callable, Generator, Iterator

import httpx

from linkspan.errors import DigestMismatch, LinkspanError, RegistryError, RegistryFull, RegistryUnavailable
from linkspan.nouns import Digest, short
from linkspan.registry.transport import Answer, Transport

_OCTETS = "application/octet-stream"
# How much is filled with zeros to end a failed upload in good order, see _Hashed.
_FILL = 16 << 20


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


def push_stream(
    transport: Transport,
    chunks: Iterator[bytes],
    size: int,
    *,
    progress: Callable[[int], None] | None,
    before_commit: Callable[[], None] | None,
) -> tuple[Digest, int]:
    """See Registry.push_stream."""
    hashed = _Hashed(chunks, size, progress)
    answer = start(transport)
    location = _location(transport, answer)
    try:
        answer = transport.call(
            "PATCH",
            location,
            what="sending a blob",
            expect=(202, 204),
            body=iter(hashed),
            headers={"Content-Type": _OCTETS, "Content-Length": str(size)},
        )
        location = _location(transport, answer, location)
        if hashed.error:
            raise hashed.error
        # A registry may answer before it has the whole body; only a body that went out whole has a digest.
        if hashed.passed != size:
            raise RegistryUnavailable(
                f"registry {transport.host} ended an upload early",
                expected=f"{size} bytes",
                found=hashed.passed,
            )
        if before_commit:
            before_commit()
        finish(transport, location, hashed.digest, size)
    except BaseException as error:
        cause = hashed.error or _full_disk(transport, error) or error
        cancel(transport, location)
        if cause is error:
            raise
        raise cause from cause.__cause__
    finally:
        hashed.close()
    return hashed.digest, size


def start(transport: Transport) -> Answer:
    """Open an upload session."""
    return transport.call("POST", "blobs/uploads/", what="starting an upload", expect=(202,))


def finish(transport: Transport, location: httpx.URL, digest: Digest, size: int) -> None:
    """Close an upload session; the registry checks the digest."""
    what = f"finishing the upload of blob {short(digest)}"
    try:
        transport.call(
            "PUT",
            location.copy_merge_params({"digest": digest}),
            what=what,
            expect=(201, 202, 204),
            headers={"Content-Type": _OCTETS, "Content-Length": "0"},
            attempts=1,
        )
    except RegistryUnavailable:
        # The answer may be what was lost, not the blob.
        if blob_size(transport, digest) != size:
            raise
    # Some registries accept what arrived, not what was sent (reported of ECR): ask what is there.
    found = blob_size(transport, digest)
    if found != size:
        raise DigestMismatch(f"{what} at registry {transport.host}", expected=f"{size} bytes", found=found)


def cancel(transport: Transport, location: httpx.URL) -> None:
    """Give up a session, so that the registry frees its bytes; one that cannot frees them by itself later."""
    with contextlib.suppress(RegistryError):
        transport.call(
            "DELETE", location, what="cancelling an upload", expect=(200, 202, 204, 404, 405), attempts=1
        )


def push_bytes(transport: Transport, data: bytes, digest: Digest) -> None:
    """A small blob in POST and PUT; tried again as a whole, because its bytes are at hand."""
    for last in (False, False, True):
        location = _location(transport, start(transport))
        try:
            transport.call(
                "PUT",
                location.copy_merge_params({"digest": digest}),
                what=f"pushing blob {short(digest)}",
                expect=(201, 202, 204),
                body=data,
                headers={"Content-Type": _OCTETS},
                attempts=1,
            )
        except RegistryUnavailable:
            if last:
                raise
        except BaseException:
            cancel(transport, location)
            raise
        else:
            return


def mount(transport: Transport, digest: Digest, from_repository: str) -> bool:
    """See Registry.mount."""
    own, other = f"repository:{transport.repository}:pull,push", f"repository:{from_repository}:pull"
    query = httpx.QueryParams({"mount": digest, "from": from_repository})
    answer = transport.call(
        "POST",
        f"blobs/uploads/?{query}",
        what=f"mounting blob {short(digest)} from {from_repository}",
        expect=(201, 202),
        scopes=(own, other),
    )
    if answer.status == 202:  # not there, or not allowed: the registry opened a normal upload instead
        cancel(transport, _location(transport, answer))
    return answer.status == 201


def blob_size(transport: Transport, digest: Digest) -> int | None:
    """See Registry.blob_size."""
    answer = transport.call(
        "HEAD", f"blobs/{digest}", what=f"looking for blob {short(digest)}", expect=(200, 404)
    )
    length = answer.headers.get("content-length", "")
    return int(length) if answer.status == 200 and length.isdigit() else None


def _location(transport: Transport, answer: Answer, before: httpx.URL | None = None) -> httpx.URL:
    location = answer.headers.get("location")
    if location:
        return transport.url(httpx.URL(location))
    if before is not None:
        return before
    raise RegistryError(f"registry {transport.host} started an upload without a Location")


def _full_disk(transport: Transport, error: BaseException) -> LinkspanError | None:
    """Whether a broken upload was broken by a full disk.

    The registry then often hangs up in the middle of the body, so that its answer is lost; asked for a new
    session, before the old one is given up and its bytes are freed, it says so.
    """
    if not isinstance(error, RegistryUnavailable):
        return None
    try:
        cancel(transport, _location(transport, start(transport)))
    except RegistryFull as full:
        return full
    except RegistryError:
        return None
    return None
