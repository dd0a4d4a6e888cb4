"""Reads in a code image's layers what they hold where the model goes; big ones once, as a stream of tar.

The engine's view of an image does not say it: which layer deletes a file that another one brought (OCI
image-spec layer.md, "Whiteouts") is only in the layers.
"""

import gzip
import io
import posixpath
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from functools import reduce
from typing import IO, TYPE_CHECKING, cast

import zstandard

from linkspan.errors import BuildFailed
from linkspan.ledger import mountpoints
from linkspan.ledger.values import Directory, MountPoint
from linkspan.nouns import Digest, short
from linkspan.progress import Say
from linkspan.registry.client import Registry
from linkspan.registry.media import Document, Image

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_BLOCK = 1 << 20
_MOST_DIRECTORIES = 1000
_MOST_OBSTACLES = 3
# What tarfile and the decompressors raise for bytes that they do not understand.
_UNREADABLE = (
    tarfile.TarError,
    OSError,
    EOFError,
    zlib.error,
    zstandard.ZstdError,
    ValueError,
    RecursionError,
)
_HEADERS = {
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
}


def mountpoint(registry: Registry, image: Image, folder: str, *, say: Say) -> MountPoint:
    """What `image` holds at `folder`, an absolute path, from the registry's notes or else from its layers.

    Raises BuildFailed for a layer that is no tar or is not in this registry, and the registry's errors.
    """
    if (found := mountpoints.known(registry, image.digest, folder)) is not None:
        return found
    layers = image.manifest.document.get("layers") or []
    of_layers = (_of_layer(registry, each, folder, say=say) for each in layers)
    found = _bounded(reduce(MountPoint.below, of_layers, MountPoint()), folder)
    mountpoints.remember(registry, image.digest, folder, found)
    return found


def _of_layer(registry: Registry, layer: Document, folder: str, *, say: Say) -> MountPoint:
    digest, size = layer["digest"], layer["size"]
    if layer.get("urls"):
        raise BuildFailed(
            f"layer {short(digest)} of the code image is not in the registry",
            found=f"a layer to be had elsewhere ({len(layer['urls'])} addresses)",
            fix="Take a base whose layers may be pushed to other registries",
        )
    noted = size > _BLOCK  # to read a small one again costs less than to have and to list another tag
    if noted:
        if (found := mountpoints.known(registry, digest, folder)) is not None:
            return found
        say(f"Reading what layer {short(digest)} ({size / 1e6:.0f} MB) holds at {folder}, this once")
    found = _read(registry, digest, folder)
    if noted:
        mountpoints.remember(registry, digest, folder, found)
    return found


def _read(registry: Registry, digest: Digest, folder: str) -> MountPoint:
    with registry.reading(digest) as chunks:
        stream = io.BufferedReader(_Chunks(chunks), _BLOCK)
        found: MountPoint | None = None
        why = ""
        try:
            found = read(_members(stream), folder)
        except _UNREADABLE as error:
            why = str(error) or type(error).__name__
        while stream.read(_BLOCK):
            pass  # only at the end is it known that these are the layer's bytes, and not others
    if found is None:
        raise BuildFailed(
            f"layer {short(digest)} of the code image cannot be read",
            expected="a tar, plain or compressed by gzip or zstd",
            found=why,
            fix="Build the image again, or take another base",
        )
    return found


def read(members: Iterable[tarfile.TarInfo], folder: str) -> MountPoint:
    """What the entries of a layer's tar say about `folder`."""
    parts = folder.strip("/").split("/")
    way = {"/" + "/".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    directories: dict[str, Directory] = {}
    obstacles: dict[str, None] = {}
    for member in members:
        # As engines clean it: from the root, which `..` cannot leave.
        path = posixpath.normpath("/" + member.name.lstrip("/"))
        parent, _, name = path.rpartition("/")
        deleted = name.startswith(_WHITEOUT)
        if deleted and name == _OPAQUE:
            path = parent or "/"
        elif deleted:
            path = f"{parent}/{name.removeprefix(_WHITEOUT)}"
        below = path.startswith(folder + "/")
        if not below and path not in way and not (deleted and path == "/"):
            continue
        obstacle = _obstacle(member, path, deleted=deleted, emptied=name == _OPAQUE, below=below)
        if obstacle and len(obstacles) < _MOST_OBSTACLES:
            obstacles[obstacle] = None
        elif not obstacle and len(directories) <= _MOST_DIRECTORIES:
            directories[path] = Directory(mode=member.mode & 0o7777, uid=member.uid, gid=member.gid)
    return _bounded(MountPoint(directories=directories, obstacles=tuple(obstacles)), folder)


def _bounded(found: MountPoint, folder: str) -> MountPoint:
    """It is kept in the registry and read for each release."""
    if len(found.directories) <= _MOST_DIRECTORIES:
        return found
    return MountPoint(obstacles=(f"{folder} has more than {_MOST_DIRECTORIES} folders",))


def _obstacle(member: tarfile.TarInfo, path: str, *, deleted: bool, emptied: bool, below: bool) -> str:
    if deleted:
        return f"a layer deletes {'what is in ' if emptied else ''}{_printable(path)}"
    if member.isdir() and path.isprintable():
        return ""
    if below:
        return f"{_printable(path)} is there already"
    return f"{path} is {f'a link to {_printable(member.linkname)}' if member.issym() else 'a file'}"


def _printable(text: str) -> str:
    """A name of somebody else's, which need not be UTF-8."""
    return text if text.isprintable() else ascii(text)


def _members(stream: "io.BufferedReader[_Chunks]") -> Iterator[tarfile.TarInfo]:
    start = stream.peek(4)[:4]
    plain: IO[bytes] = stream
    if start.startswith(b"\x1f\x8b"):
        plain = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    elif start == b"\x28\xb5\x2f\xfd":
        plain = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True, closefd=False)
    elif not start:
        return  # an empty layer has not even the end of a tar
    with tarfile.open(fileobj=plain, mode="r|", bufsize=_BLOCK, tarinfo=_Entry) as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined] # else it remembers them all
            yield member


class _Entry(tarfile.TarInfo):
    """An entry whose extended headers are of a size that a name or an attribute may have."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > _BLOCK:
            raise ValueError(f"a header of {self.size} bytes")
        return cast("tarfile.TarInfo", super()._proc_member(archive))  # type: ignore[misc]


class _Chunks(io.RawIOBase):
    """Chunks as a file that can be read once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
        target = memoryview(buffer)
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
