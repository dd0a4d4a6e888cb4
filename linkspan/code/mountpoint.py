"""Reads in a code image's layers what they hold where the model goes; big ones once, as a stream of tar.

The engine's view of an image does not say it: which layer deletes a file that another one brought (OCI
image-spec layer.md, "Whiteouts") is only in the layers.
"""

import gzip
import io
import tarfile
from collections.abc import Iterable, Iterator
from functools import reduce
from typing import IO, TYPE_CHECKING, cast

import zstandard

from linkspan.errors import BuildFailed
from linkspan.ledger import mountpoints
from linkspan.ledger.values import Directory, MountPoint
from linkspan.nouns import short
from linkspan.progress import Say
from linkspan.registry.client import Registry
from linkspan.registry.media import Document, Image

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_BLOCK = 1 << 20
_MOST_DIRECTORIES = 1000


def mountpoint(registry: Registry, image: Image, folder: str, *, say: Say) -> MountPoint:
    """What `image` holds at `folder`, an absolute path, from the registry's notes or else from its layers.

    Raises BuildFailed for a layer that is no tar, and the registry's errors.
    """
    if (found := mountpoints.known(registry, image.digest, folder)) is not None:
        return found
    layers = image.manifest.document["layers"]
    of_layers = (_of_layer(registry, each, folder, say=say) for each in layers)
    found = reduce(MountPoint.below, of_layers, MountPoint())
    mountpoints.remember(registry, image.digest, folder, found)
    return found


def _of_layer(registry: Registry, layer: Document, folder: str, *, say: Say) -> MountPoint:
    digest, size = layer["digest"], layer["size"]
    noted = (
        size > _BLOCK
    )  # a small one is read again sooner than the registry would take and list another tag
    if noted:
        if (found := mountpoints.known(registry, digest, folder)) is not None:
            return found
        say(f"Reading what layer {short(digest)} ({size / 1e6:.0f} MB) holds at {folder}, this once")
    try:
        with registry.reading(digest) as chunks:
            stream = io.BufferedReader(_Chunks(chunks), _BLOCK)
            found = read(_members(stream), folder)
            while stream.read(_BLOCK):
                pass  # only at the end is it known that these are the layer's bytes
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zstandard.ZstdError) as error:
        raise BuildFailed(
            f"layer {short(digest)} of the code image cannot be read",
            expected="a tar, plain or compressed by gzip or zstd",
            found=str(error),
            fix="Build the image again, or take another base",
        ) from None
    if noted:
        mountpoints.remember(registry, digest, folder, found)
    return found


def read(members: Iterable[tarfile.TarInfo], folder: str) -> MountPoint:
    """What the entries of a layer's tar say about `folder`."""
    parts = folder.strip("/").split("/")
    way = {"/" + "/".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    directories: dict[str, Directory] = {}
    obstacles: dict[str, None] = {}
    for member in members:
        path = "/" + "/".join(part for part in member.name.split("/") if part not in ("", "."))
        parent, _, name = path.rpartition("/")
        deleted = name.startswith(_WHITEOUT)
        if deleted and name == _OPAQUE:
            path = parent or "/"
        elif deleted:
            path = f"{parent}/{name.removeprefix(_WHITEOUT)}"
        below = path.startswith(folder + "/")
        if not below and path not in way and not (deleted and path == "/"):
            continue
        if deleted:
            obstacles[f"a layer deletes {'what is in ' if name == _OPAQUE else ''}{path}"] = None
        elif member.isdir():
            directories[path] = Directory(mode=member.mode & 0o7777, uid=member.uid, gid=member.gid)
        elif below:
            obstacles[f"{path} is there already"] = None
        else:
            obstacles[f"{path} is {_kind(member)}"] = None
        if len(directories) > _MOST_DIRECTORIES:
            obstacles[f"{folder} has more than {_MOST_DIRECTORIES} folders"] = None
            break
    return MountPoint(directories=directories).below(MountPoint(obstacles=tuple(obstacles)))


def _kind(member: tarfile.TarInfo) -> str:
    return f"a link to {member.linkname}" if member.issym() else "a file"


def _members(stream: "io.BufferedReader[_Chunks]") -> Iterator[tarfile.TarInfo]:
    start = stream.peek(4)[:4]
    plain: IO[bytes] = stream
    if start.startswith(b"\x1f\x8b"):
        plain = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    elif start == b"\x28\xb5\x2f\xfd":
        plain = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
    elif not start:
        return  # an empty layer has not even the end of a tar
    with tarfile.open(fileobj=plain, mode="r|", bufsize=_BLOCK) as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined] # else it remembers them all
            yield member


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
