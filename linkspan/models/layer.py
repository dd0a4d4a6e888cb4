"""A model's layer: an uncompressed tar whose bytes follow from its files and their folder alone.

The headers are written here and not by `tarfile`, so that the digest of a layer can never change with the
version of Python. ustar where that is enough, PAX records (POSIX.1-2001, `pax`) for long or non-ASCII names
and for files of 8 GiB and more. OCI image-spec layer.md says what engines expect.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from linkspan.errors import ConfigError, ModelCorrupt, ModelRefused
from linkspan.ledger.values import Directory
from linkspan.nouns import ModelFile

_BLOCK = 512
_END = bytes(2 * _BLOCK)
# What eleven octal digits hold.
_USTAR_SIZE = 8**11 - 1
_USTAR_NAME = 100
# What seven hold.
_USTAR_ID = 8**7 - 1

OpenFile = Callable[[ModelFile], Iterator[bytes]]


def check_paths(files: Sequence[ModelFile], folder: str) -> None:
    """Raises as `layer_chunks` does for what all files of a model may not be together."""
    _entries(files, folder)


def layer_size(files: Sequence[ModelFile], folder: str) -> int:
    """Bytes of the layer, known before a byte of the model is read. Raises as `layer_chunks` does."""
    size = len(_END)
    for name, file in _entries(files, folder):
        size += len(_header(name, file))
        if file:
            size += file.size + _padding(file.size)
    return size


def layer_chunks(files: Sequence[ModelFile], folder: str, open_file: OpenFile) -> Iterator[bytes]:
    """A layer's bytes, `layer_size` of them, in constant memory; `folder` is an absolute path.

    Raises ModelCorrupt, naming the file, as soon as its bytes are more, fewer or others than it says;
    ModelRefused for names that an image cannot hold; ConfigError for a folder that cannot be one.
    """
    for name, file in _entries(files, folder):
        yield _header(name, file)
        if file:
            yield from _checked(file, open_file(file))
            if padding := _padding(file.size):
                yield bytes(padding)
    yield _END


def directories(found: Mapping[str, Directory]) -> bytes:
    """A layer that gives directories, by absolute path, back what they are in the code image.

    Empty if all are as a model's layers have them. With all that they are in, since engines give those
    without an entry whatever mode they like.
    """
    usual = Directory()
    wanted: set[str] = set()
    for path, directory in found.items():
        if directory != usual:
            parts = path.strip("/").split("/")
            wanted |= {"/".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    if not wanted:
        return b""
    return b"".join(_header(f"{path}/", None, found.get(f"/{path}", usual)) for path in sorted(wanted)) + _END


def _entries(files: Sequence[ModelFile], folder: str) -> list[tuple[str, ModelFile | None]]:
    """Names in the tar, sorted, parents first; None for a folder."""
    top = folder.strip("/").split("/")
    if not folder.startswith("/") or {"", ".", ".."} & set(top):
        raise ConfigError(
            f"model path {folder!r}",
            expected="an absolute path of a folder, such as /model",
            fix="Mend model.path",
        )
    entries: dict[str, ModelFile | None] = {}
    for file in files:
        parts = file.path.split("/")
        # OCI image-spec layer.md, "Whiteouts": engines read these names as deletions.
        if any(part.startswith(".wh.") for part in parts):
            raise ModelRefused(
                f"model file {file.path!r} cannot be in an image: names with .wh. mean deletions there",
                fix="Rename it",
            )
        path = "/".join(top + parts)
        if path in entries:
            raise ModelRefused(
                f"model file {file.path!r} is there twice, or is a folder too", fix="Rename one"
            )
        entries[path] = file
        # Folders have entries of their own: an engine gives those without one whatever mode it likes.
        for depth in range(1, len(top) + len(parts)):
            parent = "/".join((top + parts)[:depth])
            if entries.setdefault(parent, None) is not None:
                raise ModelRefused(f"model file {parent!r} is a folder too", fix="Rename one")
    if not files:
        raise ModelRefused("the model has no files")
    return [(path if entries[path] else path + "/", entries[path]) for path in sorted(entries)]


def _checked(file: ModelFile, chunks: Iterator[bytes]) -> Iterator[bytes]:
    hashed = hashlib.sha256()
    passed = 0
    for chunk in chunks:
        passed += len(chunk)
        if passed > file.size:
            raise _corrupt(file, f"{file.size} bytes", f"{passed} bytes or more")
        hashed.update(chunk)
        yield chunk
    if passed != file.size:
        raise _corrupt(file, f"{file.size} bytes", f"{passed} bytes")
    if hashed.hexdigest() != file.sha256:
        raise _corrupt(file, f"SHA-256 {file.sha256}", hashed.hexdigest())


def _corrupt(file: ModelFile, expected: str, found: str) -> ModelCorrupt:
    return ModelCorrupt(
        f"model file {file.path!r} is not what its manifest says",
        expected=expected,
        found=found,
        fix="Publish the model again under a new version",
    )


def _padding(size: int) -> int:
    return -size % _BLOCK


def _header(name: str, file: ModelFile | None, directory: Directory = Directory()) -> bytes:  # noqa: B008 frozen
    """The header blocks of an entry: owner root, time 0, readable by everybody, so that nothing varies."""
    size = file.size if file else 0
    kind, mode = (b"0", 0o644) if file else (b"5", directory.mode)
    uid, gid = (0, 0) if file else (directory.uid, directory.gid)
    encoded = name.encode()
    records = b""
    if len(encoded) > _USTAR_NAME or not name.isascii():
        records += _pax_record("path", encoded)
    if size > _USTAR_SIZE:
        records += _pax_record("size", str(size).encode())
    for key, number in (("uid", uid), ("gid", gid)):
        if number > _USTAR_ID:
            records += _pax_record(key, str(number).encode())
    pax = b""
    if records:
        pax = _ustar(b"././@PaxHeader", 0o644, len(records), b"x") + records + bytes(_padding(len(records)))
        encoded = name.encode("ascii", "replace")
    size = size if size <= _USTAR_SIZE else 0
    owner = (uid if uid <= _USTAR_ID else 0, gid if gid <= _USTAR_ID else 0)
    return pax + _ustar(encoded[:_USTAR_NAME], mode, size, kind, owner)


def _ustar(name: bytes, mode: int, size: int, kind: bytes, owner: tuple[int, int] = (0, 0)) -> bytes:
    # POSIX.1-1988: name, mode, uid, gid, size, mtime, checksum, type, link, magic, owner, device, prefix.
    before = name.ljust(100, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, *owner, size, 0)
    after = kind + bytes(100) + b"ustar\x0000" + bytes(32 + 32) + b"%07o\0%07o\0" % (0, 0) + bytes(155 + 12)
    # The checksum counts its own eight bytes as blanks.
    return before + b"%06o\0 " % (sum(before) + sum(after) + 8 * 0x20) + after


def _pax_record(key: str, value: bytes) -> bytes:
    # "%d %s=%s\n", where the number counts the whole record, its own digits too.
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest
