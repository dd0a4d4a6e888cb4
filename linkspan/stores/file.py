"""A folder as a model store: for one machine, a network share, the demo and most tests.

It must be as strict as the clouds: an object appears whole or not at all, is never replaced by `put`, and is
pinned while it is read.
"""

import contextlib
import os
import stat
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field, field_validator

from linkspan.errors import (
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from linkspan.progress import Progress
from linkspan.stores.base import CHUNK, ObjectStore, StoredObject, Upload, changed
from linkspan.stores.disk import Disk, write
from linkspan.stores.settings import StoreSettings
from linkspan.stores.several import several
from linkspan.stores.upload import size_of

# Names that begin like this are uploads on their way; a reader must never see them.
_PARTIAL = ".~linkspan-"
_TICK_NS = 20_000_000
# What is synced together, and so lies there as partial names meanwhile.
_GROUP_FILES = 2_000
_GROUP_BYTES = 256 << 20


class FileStoreSettings(StoreSettings):
    """A folder on this machine, or on a share that every worker mounts at the same place."""

    path: str = Field(
        title="Folder",
        description="Absolute path of the folder with the models, for example /srv/models. It must exist.",
    )

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        if not Path(path).expanduser().is_absolute():
            raise ValueError(f"{path!r} is not an absolute path such as /srv/models")
        return path

    def objects(self) -> ObjectStore:
        return FileObjects(Path(self.path).expanduser())


class FileObjects:
    """ObjectStore over a folder. A pin is inode, size, mtime and ctime: any write changes at least one."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def url(self) -> str:
        return self._root.as_uri()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        self._check_root()
        folder = prefix.rpartition("/")[0]
        inside: dict[str, Path] = {}
        with _translated(prefix):
            for key in _walk(self._root, folder):
                if key.startswith(prefix):
                    # Somebody may delete it between the walk and here: then it is simply not there.
                    with contextlib.suppress(ObjectNotFound):
                        yield self._look(key, inside)

    def head(self, key: str) -> StoredObject:
        self._check_root()
        return self._look(key, {})

    def head_all(self, keys: Sequence[str]) -> Sequence[StoredObject | None]:
        self._check_root()
        inside: dict[str, Path] = {}
        found: list[StoredObject | None] = []
        for key in keys:
            # Not a wait for each: when one has settled, so has all that was there before it was looked at.
            try:
                found.append(self._look(key, inside))
            except ObjectNotFound:
                found.append(None)
        return found

    def read(self, obj: StoredObject) -> Iterator[bytes]:
        path = self._path(obj.key, {})
        try:
            file = path.open("rb")
        except FileNotFoundError:
            self._check_root()
            raise _not_as_pinned(obj) from None
        except OSError as error:
            raise _error(error, obj.key) from None
        with file, _translated(obj.key):
            left = obj.size
            while True:
                # An open file survives a rename over it, so only a write into it can change these bytes;
                # looking after each read and before its bytes are passed on catches that.
                chunk = file.read(CHUNK)
                if _pin(os.fstat(file.fileno())) != obj.pin and not _renamed_away(file.fileno(), obj.pin):
                    raise _not_as_pinned(obj)
                if not chunk:
                    break
                left -= len(chunk)
                yield chunk
        if left:
            raise _not_as_pinned(obj)

    def put(self, key: str, source: Path | bytes, *, progress: Progress | None = None) -> StoredObject:
        self._check_root()
        if self._add([Upload(key, source, size_of(source))], {}, progress):
            raise _exists(key)
        return self.head(key)

    def put_missing(
        self, uploads: Sequence[Upload], *, progress: Progress | None = None
    ) -> Sequence[StoredObject]:
        self._check_root()
        inside: dict[str, Path] = {}
        there: list[str] = []
        for group in _groups(uploads):
            there += self._add(group, inside, progress)
        return [self._look(key, inside) for key in there]

    def delete(self, key: str) -> None:
        self._check_root()
        path = self._path(key, {})
        with _translated(key):
            path.unlink(missing_ok=True)

    def _look(self, key: str, inside: dict[str, Path]) -> StoredObject:
        path = self._path(key, inside)
        with _translated(key):
            status = _settled(path)
        if not stat.S_ISREG(status.st_mode):
            raise ObjectNotFound(f"{key} is not a file in {self.url}")
        return StoredObject(key=key, size=status.st_size, pin=_pin(status))

    def _add(
        self, uploads: Sequence[Upload], inside: dict[str, Path], progress: Progress | None
    ) -> Sequence[str]:
        """Create what is not there, and return the keys of the rest.

        All bytes are on the disk before the first of them has its name, and all names when this returns: so
        a name never stands for less than its object, and who finds one need not ask who put it.
        """
        paths = {upload.key: self._path(upload.key, inside) for upload in uploads}
        folders = {inside[_above(upload.key)] for upload in uploads}
        partials: dict[str, Path] = {}

        def stage(upload: Upload, count: Progress) -> None:
            path = paths[upload.key]
            with _translated(upload.key):
                if path.exists():
                    return
                upload.check()
                partials[upload.key] = partial = path.parent / f"{_PARTIAL}{uuid.uuid4().hex}"
                if write(partial, upload.source, min(CHUNK, upload.size + 1), count) != upload.size:
                    raise StoreError(
                        f"{upload.key} changed its size while it was stored", expected=f"{upload.size} bytes"
                    )
                upload.check()

        for folder in folders:
            self._make(folder)
        with _translated(str(self._root)), Disk(folders, self._root) as disk:
            try:
                several(stage, uploads, progress)
                disk.sync_files(list(partials.values()))
                created = {key for key, partial in partials.items() if _named(partial, paths[key])}
            finally:
                for partial in partials.values():
                    partial.unlink(missing_ok=True)
            disk.sync_names()
        return [upload.key for upload in uploads if upload.key not in created]

    def _make(self, folder: Path) -> None:
        key = folder.relative_to(self._root).as_posix()
        with _translated(key):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                raise _exists(key) from None

    def _path(self, key: str, inside: dict[str, Path]) -> Path:
        """Where the object is. `inside` has the folders that are known to lie in the store, by key."""
        names = key.split("/")
        if {"", ".", ".."} & set(names) or "\0" in key or any(name.startswith(_PARTIAL) for name in names):
            raise ObjectNotFound(f"{key!r} cannot be a key", expected="a plain relative path with /")
        with _translated(key):
            above = _above(key)
            folder = inside.get(above)
            if folder is None:
                folder = self._root.joinpath(*names[:-1])
                self._check_inside(folder, key)
                inside[above] = folder
            path = folder / names[-1]
            if path.is_symlink():
                self._check_inside(path, key)
        return path

    def _check_inside(self, path: Path, key: str) -> None:
        # A link may point to a neighbour (latest.onnx -> v3.onnx) but not out of the store.
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise StoreDenied(f"{key} is a link that leads out of {self.url}", fix="Copy the file instead")

    def _check_root(self) -> None:
        if not self._root.is_dir():
            raise ObjectNotFound(
                f"model store {self.url} is not there",
                expected="an existing folder",
                fix=f"Create it with: mkdir -p {self._root}",
            )


def _walk(root: Path, folder: str) -> Iterator[str]:
    """Keys of all files below `folder`, in key order."""
    try:
        entries = list(os.scandir(root / folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    # A folder sorts with its slash ("a-b" < "a/c"), else the order would not be that of whole keys.
    named = sorted((entry.name + "/" if entry.is_dir() else entry.name, entry) for entry in entries)
    for name, entry in named:
        key = f"{folder}/{entry.name}" if folder else entry.name
        if name.endswith("/"):
            if not entry.is_symlink():  # a linked folder may be a loop
                yield from _walk(root, key)
        elif entry.is_file() and not name.startswith(_PARTIAL):
            yield key


def _settled(path: Path) -> os.stat_result:
    """The file's status, once a further write would show in it.

    Before Linux 6.13 times move in ticks of up to 10 ms, so a file that was written a moment ago could be
    written again without a trace. A server's clock may differ, hence the few rounds.
    """
    for _ in range(5):
        status = path.stat()
        age = time.time_ns() - status.st_ctime_ns
        if not 0 <= age < _TICK_NS:
            break
        time.sleep((_TICK_NS - age) / 1e9)
    return status


def _pin(status: os.stat_result) -> str:
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def _renamed_away(descriptor: int, pin: str) -> bool:
    """Whether the open file only lost its name: that moves ctime, but neither its bytes nor mtime."""
    now = os.fstat(descriptor)
    return now.st_nlink == 0 and _pin(now).rpartition("-")[0] == pin.rpartition("-")[0]


def _above(key: str) -> str:
    """The key of the folder that holds it."""
    return key.rpartition("/")[0]


def _groups(uploads: Sequence[Upload]) -> Iterator[list[Upload]]:
    group: list[Upload] = []
    size = 0
    for upload in uploads:
        if group and (len(group) == _GROUP_FILES or size + upload.size > _GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(upload)
        size += upload.size
    if group:
        yield group


def _named(partial: Path, path: Path) -> bool:
    """Give the file its name instead of the partial one; False if the name is taken."""
    try:
        # link() fails if the name is taken, in one step and on NFS too; rename() would replace it.
        os.link(partial, path)
    except FileExistsError:
        return False
    finally:
        # At once: to lose a name moves ctime, and with it the pin of who has seen the file meanwhile.
        partial.unlink(missing_ok=True)
    return True


def _not_as_pinned(obj: StoredObject) -> ObjectChanged:
    return changed(obj.key, expected=f"the {obj.size} bytes that were there when it was pinned")


def _exists(key: str) -> ObjectExists:
    return ObjectExists(f"{key} is there already")


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _error(error, key) from None


def _error(error: OSError, key: str) -> StoreError:
    reason = error.strerror or type(error).__name__
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return ObjectNotFound(f"{key} is not there")
    if isinstance(error, PermissionError):
        return StoreDenied(
            f"{key}: {reason}", fix="Let the user that Linkspan runs as read and write the folder"
        )
    return StoreUnavailable(f"{key}: {reason}", fix="See to the disk or the share that holds the store")
