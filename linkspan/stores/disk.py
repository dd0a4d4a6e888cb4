"""What makes files survive a power cut, many of them at the price of one."""

import contextlib
import ctypes
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from linkspan.progress import Progress
from linkspan.stores.several import several

# Up to so many files are synced one by one: a sync of a whole filesystem waits for what others have written.
_FEW = 16


class Disk:
    """The folders in which files are about to be written, and `root`, which holds them.

    Opened before that: of a write that failed, syncfs tells only those who were there (since Linux 5.8).
    """

    def __init__(self, folders: Iterable[Path], root: Path) -> None:
        self._root = root
        self._opened = contextlib.ExitStack()
        self._folders = {folder: self._open(folder) for folder in folders}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def sync_files(self, files: Sequence[Path]) -> None:
        """Bytes of `files`, which lie in the folders, survive a power cut from now on."""
        left = files
        if len(files) > _FEW:
            whole = {folder: fd for folder, fd in self._folders.items() if has_device(fd)}
            for descriptor in {os.fstat(fd).st_dev: fd for fd in whole.values()}.values():
                sync_filesystem(descriptor)
            left = [file for file in files if file.parent not in whole]
        several(lambda file, _: _sync(file), left)

    def sync_names(self) -> None:
        """Names in the folders survive a power cut from now on, whoever gave them; the folders' own too."""
        for descriptor in self._folders.values():
            os.fsync(descriptor)
        above = {parent for folder in self._folders for parent in folder.parents}
        for folder in above - self._folders.keys():
            if folder.is_relative_to(self._root):
                _sync(folder)

    def _open(self, folder: Path) -> int:
        descriptor = os.open(folder, os.O_RDONLY)
        self._opened.callback(os.close, descriptor)
        return descriptor


def has_device(descriptor: int) -> bool:
    """Whether a sync of the whole filesystem reaches a disk, and can be had.

    Filesystems without a block device (major number 0) are shares, and what lies on other filesystems: there
    syncfs may end at a server's memory, which fsync does not.
    """
    return _syncfs is not None and os.major(os.fstat(descriptor).st_dev) != 0


def sync_filesystem(descriptor: int) -> None:
    """All that was written to the filesystem survives a power cut."""
    assert _syncfs is not None  # noqa: S101 what has_device is for
    if _syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def write(path: Path, source: Path | bytes, chunk: int, progress: Progress) -> int:
    """Write a new file, `chunk` bytes of its source at a time, and return how many it has."""
    written = 0
    with path.open("xb", buffering=0) as target:
        if isinstance(source, bytes):
            _write_all(target.fileno(), source, progress)
            return len(source)
        with source.open("rb", buffering=0) as file:
            while block := file.read(chunk):
                _write_all(target.fileno(), block, progress)
                written += len(block)
    return written


def _write_all(descriptor: int, block: bytes, progress: Progress) -> None:
    left = memoryview(block)
    while left:
        left = left[os.write(descriptor, left) :]
    if block:
        progress(len(block))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Python has os.sync, which tells of no failure, and no syncfs; other systems have none at all.
_syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
