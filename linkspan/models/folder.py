"""The files of a model on the publisher's machine: found, checked and hashed before anything is uploaded."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from linkspan.errors import ConfigError
from linkspan.nouns import ModelFile
from linkspan.progress import Progress
from linkspan.stores.base import CHUNK
from linkspan.stores.several import several


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
        root = path.resolve()
        files = several(lambda found, count: _hashed(*found, progress=count), sorted(_walk(root, root)))
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


def _walk(folder: Path, root: Path, above: str = "") -> Iterator[tuple[str, Path]]:
    """Paths in the model and where they are; `folder` is `root`, which has no link in it, or below it."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name, source = above + entry.name, folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(source, root, f"{name}/")
                continue
            if entry.is_symlink():
                _check_link(source, root)
            if not entry.is_file():
                raise ConfigError(f"{source} is not a file", fix="Remove it from the model's folder")
            yield name, source


def _check_link(source: Path, root: Path) -> None:
    source.stat()  # raises for one that leads nowhere
    target = source.resolve()
    if target.is_dir():
        raise ConfigError(f"{source} is a link to a folder", fix="Put the folder itself there")
    if not target.is_relative_to(root):
        raise ConfigError(
            f"{source} is a link that leads out of the model's folder",
            found=target,
            fix="Copy the file into the folder",
        )


def _hashed(name: str, source: Path, *, progress: Progress | None = None) -> LocalFile:
    # The path becomes a name in a tar archive, in a container and on people's terminals.
    if not name.isprintable() or "\\" in name or name != name.strip() or len(name.encode()) > 512:
        raise ConfigError(
            f"{name!r} is an odd name for a model's file",
            expected="printable characters, no backslash, no space at its ends, at most 512 bytes",
            fix="Rename the file",
        )
    before = state(source)
    digest = hashlib.sha256()
    with source.open("rb", buffering=0) as file:
        while chunk := file.read(min(CHUNK, before[1] + 1)):
            digest.update(chunk)
            if progress:
                progress(len(chunk))
    if state(source) != before:
        raise ConfigError(f"{source} is being written to", fix="Publish when the training has finished")
    return LocalFile(ModelFile(path=name, size=before[1], sha256=digest.hexdigest()), source, before)
