"""The files of a model on the publisher's machine: found, checked and hashed before anything is uploaded."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from linkspan.errors import ConfigError
from linkspan.nouns import ModelFile
from linkspan.stores.base import CHUNK


class LocalFile(NamedTuple):
    """A file of the model, where its bytes are, and how it was on disk when it was hashed."""

    file: ModelFile
    source: Path
    state: tuple[int, int, int]


def collect(path: Path) -> list[LocalFile]:
    """All files of the model at `path`, a file or a folder, hashed, by path.

    Raises ConfigError for a path that is not there or holds nothing, for links that lead out of the folder,
    for what is neither file nor folder, and for names that would not survive everywhere.
    """
    try:
        if path.is_file():
            return [_hashed(path.name, path)]
        if not path.is_dir():
            raise ConfigError(f"{path} is not there", expected="a model's file, or a folder with its files")
        files = [_hashed(name, source) for name, source in sorted(_walk(path))]
    except OSError as error:
        raise ConfigError(f"{error.filename or path} cannot be read: {error.strerror}") from None
    if not any(local.file.size for local in files):
        raise ConfigError(
            f"{path} holds no model",
            expected="at least one file that is not empty",
            found=f"{len(files)} empty files" if files else "an empty folder",
        )
    return files


def state(source: Path) -> tuple[int, int, int]:
    """What changes when somebody writes to the file."""
    status = source.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    root = folder.resolve()
    for parent, folders, names in os.walk(root):
        for name in folders:
            if (Path(parent) / name).is_symlink():
                raise ConfigError(
                    f"{Path(parent) / name} is a link to a folder", fix="Put the folder itself there"
                )
        for name in names:
            source = Path(parent) / name
            if not source.resolve().is_relative_to(root):
                raise ConfigError(
                    f"{source} is a link that leads out of the model's folder",
                    found=source.resolve(),
                    fix="Copy the file into the folder",
                )
            if not stat.S_ISREG(source.stat().st_mode):
                raise ConfigError(f"{source} is not a file", fix="Remove it from the model's folder")
            yield source.relative_to(root).as_posix(), source


def _hashed(name: str, source: Path) -> LocalFile:
    # The path becomes a name in a tar archive, in a container and on people's terminals.
    if not name.isprintable() or "\\" in name or name != name.strip() or len(name.encode()) > 512:
        raise ConfigError(
            f"{name!r} is an odd name for a model's file",
            expected="printable characters, no backslash, no space at its ends, at most 512 bytes",
            fix="Rename the file",
        )
    before = state(source)
    digest = hashlib.sha256()
    with source.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if state(source) != before:
        raise ConfigError(f"{source} is being written to", fix="Publish when the training has finished")
    return LocalFile(ModelFile(path=name, size=before[1], sha256=digest.hexdigest()), source, before)
