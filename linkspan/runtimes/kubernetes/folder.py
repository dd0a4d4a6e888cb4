"""Which documents a folder of manifests is, as `kubectl apply -k` or `-R -f` sees it, and where each stands.

A kustomization.yaml that only lists files is read here; `kubectl kustomize` does what more kustomize can do.
Nothing comes from outside the folder: the same commit must always give the same objects.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from linkspan.errors import ConfigError
from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.yaml import documents

FOLDER: Final = "k8s"
"""What the folder is called, in an app's folder and in errors."""

_MAX_FILE: Final = 1024 * 1024
_KUSTOMIZATIONS: Final = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_PLAIN_KEYS: Final = {"apiVersion", "kind", "resources"}
_LISTS_OF_FILES: Final = ("resources", "bases", "components")
_KUSTOMIZE_SECONDS: Final = 60
# kustomize takes addresses in many fields: it gets no network, whose content may change without a commit.
_OFFLINE: Final = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"),
    "GIT_ALLOW_PROTOCOL": "none",
}


class Found(NamedTuple):
    """An object and where it stands."""

    where: str
    obj: KubeObject


def read_folder(folder: Path) -> Iterator[Found]:
    """The documents in a folder, in the order in which it lists them, else by path. Raises ConfigError."""
    root = folder.resolve()
    return _read(root, root)


def _read(folder: Path, root: Path) -> Iterator[Found]:
    names = [name for name in _KUSTOMIZATIONS if (folder / name).is_file()]
    if len(names) > 1:
        raise ConfigError(f"{_called(folder, root)} has both {names[0]} and {names[1]}", fix="Keep one")
    if names:
        yield from _kustomization(folder / names[0], root)
        return
    nested = sorted(path for name in _KUSTOMIZATIONS for path in folder.rglob(name))
    if nested:
        raise ConfigError(
            f"{_called(folder, root)} has no kustomization.yaml, but {_called(nested[0], root)} is one",
            fix="Add one that lists the folder to apply under `resources`",
        )
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in {".yaml", ".yml"} and path.is_file() and not hidden:
            yield from _file(path, root)


def _kustomization(path: Path, root: Path) -> Iterator[Found]:
    """What a kustomization.yaml brings. What it reaches is looked at first: nothing may come from afar."""
    plain, files = _survey(path, root, ())
    if plain:
        for file in files:
            yield from _file(file, root)
        return
    where = _called(path, root)
    for line, each in documents(_kustomize(path.parent, where), f"what kustomize makes of {where}"):
        yield Found(f"what kustomize makes of {where}, line {line}", each)


def _survey(path: Path, root: Path, above: tuple[Path, ...]) -> tuple[bool, list[Path]]:
    """Whether this file and those of the folders it lists only list files, and those files."""
    document = _one(path, root)
    files: list[Path] = []
    plain = set(document) <= _PLAIN_KEYS and document.get("kind", "Kustomization") == "Kustomization"
    if path in above:
        raise ConfigError(f"{_called(path, root)} lists itself")
    for key in _LISTS_OF_FILES:
        for entry in _entries(document, key, path, root):
            if entry.is_dir():
                inner = _survey(_kustomization_in(entry, path, root), root, (*above, path))
                plain, files = plain and inner[0], files + inner[1]
            else:
                files.append(entry)
    return plain, files


def _one(path: Path, root: Path) -> Mapping[str, Any]:
    found = [value for _, value in documents(_text(path, root), _called(path, root))]
    if len(found) != 1:
        raise ConfigError(f"{_called(path, root)} must be one document", found=len(found))
    return found[0]


def _entries(document: Mapping[str, Any], key: str, path: Path, root: Path) -> list[Path]:
    """The files and folders that a kustomization lists. Raises ConfigError for what is not there."""
    listed = document.get(key) or []
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        raise ConfigError(f"{_called(path, root)}: `{key}` must be a list of files and folders")
    for entry in listed:
        if not (path.parent / entry).exists():
            raise ConfigError(
                f"{_called(path, root)}: `{key}` lists {entry}, which is not there",
                expected="a file or folder of this repository",
                fix="Copy what is elsewhere into it: the same commit must always give the same objects",
            )
    return [inside((path.parent / entry).resolve(), root, entry) for entry in listed]


def _kustomization_in(folder: Path, listed_by: Path, root: Path) -> Path:
    for name in _KUSTOMIZATIONS:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(
        f"{_called(listed_by, root)} lists {_called(folder, root)}/, which has no kustomization.yaml"
    )


def _file(path: Path, root: Path) -> Iterator[Found]:
    where = _called(path, root)
    for line, each in documents(_text(path, root), where):
        yield Found(f"{where}, line {line}", each)


def _text(path: Path, root: Path) -> str:
    where = _called(path, root)
    real = inside(path.resolve(), root, where)
    try:
        with real.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
        if len(data) > _MAX_FILE:
            raise ConfigError(f"{where} is too large", expected=f"at most {_MAX_FILE} bytes")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{where}, line {line}: not UTF-8 text") from None


def inside(path: Path, root: Path, called: str) -> Path:
    # A link to a file of the worker's would carry it into the image's label.
    if not path.is_relative_to(root):
        raise ConfigError(
            f"{called} leads out of the app's folder {FOLDER}/", fix=f"Copy what is needed into {FOLDER}/"
        )
    return path


def _called(path: Path, root: Path) -> str:
    inner = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return FOLDER if inner == "." else f"{FOLDER}/{inner}"


def _kustomize(folder: Path, where: str) -> str:
    """What `kubectl kustomize` makes of a folder: without plugins, Helm, the user's settings or a cluster."""
    found = [each for each in (("kubectl", "kustomize"), ("kustomize", "build")) if shutil.which(each[0])]
    if not found:
        raise ConfigError(
            f"{where} does more than list `resources`",
            expected="only `resources`, or `kubectl` on the worker's PATH, which does the rest",
            fix="Install kubectl on the worker, or apply the changes to the files themselves",
        )
    program, word = found[0]
    with tempfile.TemporaryDirectory(prefix="linkspan-") as home:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, "TMPDIR": home, **_OFFLINE}
        try:
            done = subprocess.run(
                [program, word, str(folder)],
                env=environment, capture_output=True, timeout=_KUSTOMIZE_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ConfigError(f"`{program} {word}` of {where} took over {_KUSTOMIZE_SECONDS} s") from None
        except OSError as error:
            raise ConfigError(f"`{program}` cannot be started: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").replace(str(folder), where.rpartition("/")[0])
        raise ConfigError(f"`{program} {word}` refuses {where}", found=" ".join(said.split())[-500:])
    return done.stdout.decode(errors="replace")
