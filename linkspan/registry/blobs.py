"""The blobs of a repository. A big one is sent in one pass: POST, PATCH while hashing, PUT with the digest.

OCI distribution-spec, "Pushing a blob in chunks". One PATCH and no Content-Range, unless the settings say
otherwise or a connection broke: registries disagree about ranges and about the length of chunks, and all
understand a single body of known length.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn, Protocol

import httpx

from linkspan.errors import (
    DigestMismatch,
    LinkspanError,
    RegistryDenied,
    RegistryError,
    RegistryFull,
    RegistryUnavailable,
)
from linkspan.nouns import Digest, sha256, short
from linkspan.registry.stream import Stream
from linkspan.registry.transport import Answer, Transport

_OCTETS = {"Content-Type": "application/octet-stream"}
_SMALL = 8 << 20
# How often an upload may break in a row without getting any further.
_BREAKS = 4


class Blobs:
    """What `Registry` knows of blobs; its docstring says what every call raises.

    `name` is host and repository, as Docker writes them: `host/prefix/app`. `chunk` is the most bytes that go
    out in one request of an upload; 0 for all.
    """

    def __init__(self, name: str, transport: Transport, *, chunk: int = 0) -> None:
        self.name = name
        self._transport = transport
        self._chunk = chunk

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
        if self._chunk and len(data) > self._chunk:
            return self.push_stream(iter([data]), len(data))[0]
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
        self,
        chunks: Iterator[bytes],
        size: int,
        *,
        progress: Callable[[int], None] | None = None,
        earlier: "Earlier | None" = None,
    ) -> "Staged":
        """Send `size` bytes in one pass and constant memory, for `commit` to make a blob of or `discard`.

        A connection that breaks is taken up again where the registry says it has got to; with `earlier` a
        later call goes on too, if this one fails for a while. `progress` gets the number of further bytes
        that passed. If the producer fails, its error comes out and the registry keeps nothing. Raises
        DigestMismatch if the producer gives more or fewer bytes.
        """
        stream = Stream(chunks, size, progress)
        session: _Session | None = None
        try:
            known = self._earlier_session(earlier, size)
            session = _Session(known[0] if known else self._start_upload())
            at = known[1] if known else 0
            stream.skip(at)
            self._send(session, stream, at, earlier, taken_up=known is not None)
            stream.finish()
        except BaseException as error:
            cause = stream.error or self._full_disk(error) or error
            passes = not isinstance(cause, Exception) or (
                isinstance(cause, LinkspanError) and cause.retriable
            )
            if session and not (earlier and passes):
                self._give_up(session.url, earlier)
            if cause is error:
                raise
            raise cause from cause.__cause__
        finally:
            stream.close()
        return Staged(session.url, stream.digest, size, earlier, known is not None)

    def _earlier_session(self, earlier: "Earlier | None", size: int) -> tuple[httpx.URL, int] | None:
        """The session of a call before this one and how far it got, if the registry still has it."""
        known = earlier.session() if earlier else ""
        if earlier is None or not known:
            return None
        try:
            found = self._ask_how_far(httpx.URL(known))
        except httpx.InvalidURL:
            found = None
        except RegistryUnavailable:
            # Away as a whole, and the next call asks again; or only what the note says is.
            self._cancel(self._start_upload())
            found = None
        if found is None or found[1] > size:
            earlier.forget()
            return None
        return found

    def _send(
        self, session: "_Session", stream: Stream, at: int, earlier: "Earlier | None", *, taken_up: bool
    ) -> None:
        """Send what is missing from `at` on."""
        broken = int(taken_up)
        while at < stream.size or not stream.size:
            if earlier:
                earlier.remember(str(session.url))
            until = min(stream.size, at + self._chunk) if self._chunk else stream.size
            try:
                self._patch(session, stream, at, until, again=broken > 0)
                at, broken = until, 0
                if not stream.size:
                    break
            except RegistryError as error:
                # What is refused once it goes on after a break may have been understood otherwise.
                if stream.error or not (error.retriable or broken) or isinstance(error, RegistryFull):
                    raise
                # First the pause: the registry may still be reading what is left in its socket.
                self._transport.pause(min(broken + 1, _BREAKS))
                found = self._how_far(session.url)
                broken = broken + 1 if found and found[1] <= at else 1
                if not found or broken > _BREAKS or not stream.has(found[1]):
                    self._raise_broken(error, session, earlier)
                else:
                    session.url, at = found
        if earlier:
            earlier.remember(str(session.url))

    def _raise_broken(self, error: RegistryError, session: "_Session", earlier: "Earlier | None") -> NoReturn:
        """A session that cannot go on: whatever it was refused for, a new one may succeed."""
        if error.retriable or isinstance(error, RegistryDenied):
            raise error
        self._give_up(session.url, earlier)
        raise RegistryUnavailable(error.what, found=error.found, fix="The next try starts anew") from None

    def _patch(self, session: "_Session", stream: Stream, at: int, until: int, *, again: bool) -> None:
        headers = _OCTETS | {"Content-Length": str(until - at)}
        # After a break always: a registry that has got further than it said refuses it at once (416).
        if at or again or until < stream.size:
            headers["Content-Range"] = f"{at}-{until - 1}"
        answer = self._transport.call(
            "PATCH",
            session.url,
            what="sending a blob",
            expect=(202, 204),
            body=stream.since(at, until),
            headers=headers,
        )
        session.url = self._location(answer) or session.url
        if stream.error:
            raise stream.error
        # A registry may answer before it has the whole body; only one that went out whole has a digest.
        if stream.passed < until:
            raise RegistryUnavailable(
                f"registry {self._transport.host} ended an upload early",
                expected=f"{until} bytes",
                found=stream.passed,
            )

    def _how_far(self, session: httpx.URL) -> tuple[httpx.URL, int] | None:
        """As `_ask_how_far`; None too if nobody answers."""
        try:
            return self._ask_how_far(session)
        except RegistryError:
            return None

    def _ask_how_far(self, session: httpx.URL) -> tuple[httpx.URL, int] | None:
        """Where an upload whose connection broke goes on, and from which offset; None if it cannot.

        distribution-spec, "Pushing a blob in chunks": GET of the session. Distribution before 3 has lost the
        session then, if bytes arrived of a body that did not end (distribution#3755).
        """
        try:
            answer = self._transport.call(
                "GET", session, what="asking how far an upload got", expect=(200, 202, 204)
            )
        except (RegistryUnavailable, RegistryDenied):
            raise
        except RegistryError:
            return None
        start, _, end = answer.headers.get("range", "").removeprefix("bytes=").partition("-")
        if start != "0" or not end.isdigit():
            return None
        # "0-0" is what registries say of nothing; nobody has a single byte.
        return self._location(answer) or session, int(end) + 1 if end != "0" else 0

    def commit(self, staged: "Staged") -> None:
        """Make a blob of what was staged. If that fails for good the registry keeps nothing."""
        try:
            self._finish(staged.session, staged.digest, staged.size)
        except BaseException as error:
            full = self._full_disk(error)
            if staged.earlier and not full and isinstance(error, RegistryUnavailable):
                raise  # for the next try to go on with
            self.discard(staged)
            if full:
                raise full from None
            if staged.taken_up and isinstance(error, DigestMismatch):
                raise RegistryUnavailable(
                    f"registry {self._transport.host} does not have what it said of an earlier upload",
                    fix="The next try starts anew",
                ) from None
            raise
        if staged.earlier:
            staged.earlier.forget()

    def discard(self, staged: "Staged") -> None:
        """Give up what was staged; the registry frees its bytes, now or later."""
        self._give_up(staged.session, staged.earlier)

    def _give_up(self, session: httpx.URL, earlier: "Earlier | None") -> None:
        self._cancel(session)
        if earlier:
            earlier.forget()

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
        expect = (200, 202, 204, 404, 405, 416)
        with contextlib.suppress(RegistryError):
            for attempt in (1, 2, 3):
                answer = self._transport.call(
                    "DELETE", session, what="cancelling an upload", expect=expect, attempts=1
                )
                if answer.status != 416:
                    return
                # Distribution 3 after a break: only by the address that it gives once it has read its socket.
                self._transport.pause(attempt)
                if not (found := self._how_far(session)):
                    return
                session = found[0]

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
    earlier: "Earlier | None" = None
    taken_up: bool = False


@dataclass
class _Session:
    """Where an upload goes on: registries that keep its state in the address give another one each time."""

    url: httpx.URL


class Earlier(Protocol):
    """Remembers the session of an upload that was not finished, for whoever tries it next."""

    def session(self) -> str:
        """Its address; empty if there is none."""
        ...

    def remember(self, session: str) -> None: ...

    def forget(self) -> None: ...
