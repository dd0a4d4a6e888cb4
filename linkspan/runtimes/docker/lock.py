"""One rollout of a service at a time, whoever starts it: a flow, a command, on this machine.

The kernel frees the lock when its process dies, so that a killed rollout is never in the next one's way.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from linkspan.errors import RolloutConflict
from linkspan.progress import Say


def lock_path(name: str) -> Path:
    """The same file for every user of this machine: root's flow and a person's command exclude each other."""
    folder = Path(tempfile.gettempdir()) / "linkspan-locks"
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        folder.chmod(0o1777)
    return folder / f"{name}.lock"


def _open(path: Path) -> int:
    try:
        # Without O_CREAT: Linux refuses that for another user's file in a folder like /tmp.
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if os.fstat(handle).st_uid == os.geteuid():
            os.fchmod(handle, 0o666)
        return handle


@contextmanager
def locked(name: str, *, seconds: float, say: Say, of: str = "") -> Iterator[None]:
    """Hold the lock `name`; `of` is how people call who holds it, if that is no rollout of `name`.

    Raises RolloutConflict (retriable) if another holds it for `seconds`.
    """
    of = of or f"another rollout of {name}"
    handle = _open(lock_path(name))
    try:
        end = time.monotonic() + seconds
        waiting = False
        while not _try(handle):
            if not waiting:
                say(f"waiting for {of} to end")
                waiting = True
            if time.monotonic() > end:
                raise RolloutConflict(
                    f"{of} did not end within {seconds:g} s",
                    fix="Look at what it waits for with `linkspan status`",
                )
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def is_locked(name: str) -> bool:
    """Whether a rollout is going on."""
    handle = _open(lock_path(name))
    try:
        return not _try(handle)
    finally:
        os.close(handle)


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
