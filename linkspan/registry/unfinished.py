"""Where an upload that did not end goes on: its session's address, in a file that one process has at a time.

Below the folder for caches of the XDG base directory specification: who loses it starts anew.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_KEPT = 7 * 86_400.0
"""Seconds: Distribution forgets sessions after a week (storage.maintenance.uploadpurging)."""


class Unfinished:
    """One upload's file; see blobs.Earlier."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def session(self) -> str:
        return os.pread(self._descriptor, 1 << 16, 0).decode(errors="replace")

    def remember(self, session: str) -> None:
        with suppress(OSError):  # a full disk; then the next try starts anew
            self.forget()
            os.pwrite(self._descriptor, session.encode(), 0)

    def forget(self) -> None:
        os.ftruncate(self._descriptor, 0)


@contextmanager
def unfinished(what: str) -> Iterator[Unfinished | None]:
    """The file of an upload, by a text that names it; None if there can be none or another process has it."""
    try:
        path, descriptor = _open(hashlib.sha256(what.encode()).hexdigest())
    except (OSError, RuntimeError):  # a container whose disk is read-only, or a user without a home
        yield None
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another process has it, or this file system knows no locks
            yield None
            return
        note = Unfinished(descriptor)
        yield note
        if not note.session():
            # Whoever opened it meanwhile has an empty note, which says no more than none.
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _open(name: str) -> tuple[Path, int]:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "linkspan" / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    path = folder / name
    # A session's address is enough to write to the upload, so it is nobody else's.
    return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _sweep(folder: Path) -> None:
    for path in folder.iterdir():
        with suppress(OSError):  # somebody else's sweep was quicker
            if time.time() - path.stat().st_mtime > _KEPT:
                path.unlink()
