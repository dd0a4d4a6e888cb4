"""Folders for a moment: a checkout, a model on its way. The next one tidies up after a killed one.

Each folder is locked while it is used, and the kernel gives the lock back at any death.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "linkspan-scratch-"
# Seconds. A younger one may be of a process that has not locked it yet.
_YOUNG = 60.0


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """An empty folder of ours alone, gone when the block ends; those that killed processes left go first."""
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{what}-"))
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # somebody else's sweep was quicker, or a process uses it
            _remove_abandoned(folder)


def _remove_abandoned(folder: Path) -> None:
    status = folder.lstat()
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not ours or time.time() - status.st_mtime < _YOUNG:
        return
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
