"""An app's own Kubernetes objects, from the folder k8s/ beside its linkspan.toml.

They travel in a label of the code image, so that a release says itself what it needs of a cluster: hence no
Secrets, a cap on the size, and the same objects for the same commit. A folder that only lists its files is
read here; `kubectl kustomize` does what more kustomize can do.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from linkspan.errors import ConfigError
from linkspan.runtimes.base import Manifest
from linkspan.runtimes.kube_objects import app_deployment
from linkspan.runtimes.kube_yaml import documents

FOLDER: Final = "k8s"

MAX_BYTES: Final = 128 * 1024
"""Of all objects as JSON. The Docker Engine takes labels in an address of at most 1 MiB, where a byte of JSON
may need six."""

_MAX_FILE: Final = 1024 * 1024
_KUSTOMIZATIONS: Final = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_PLAIN_KEYS: Final = {"apiVersion", "kind", "resources"}
_LISTS_OF_FILES: Final = ("resources", "bases", "components")
_KUSTOMIZE_SECONDS: Final = 60
# What `kubectl get -o yaml` shows and nobody may apply.
_SERVER_SIDE: Final = {
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
}
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


class _Found(NamedTuple):
    """An object and where it stands."""

    where: str
    manifest: Manifest


def load(app: Path) -> tuple[Manifest, ...]:
    """The objects in the folder k8s/ of an app's folder, in its order; none if there is no such folder.

    Raises ConfigError that names file and line: for what is no YAML and no object, twice the same object,
    Secrets, more than MAX_BYTES, none or several Deployments with the placeholder image, or kustomize's
    features where there is no `kubectl` or `kustomize`.
    """
    folder = app / FOLDER
    return load_folder(folder) if folder.exists() else ()


def load_folder(folder: Path) -> tuple[Manifest, ...]:
    """`load` of a folder of manifests."""
    root = folder.resolve()
    found = [plain for each in _read(root, root) for plain in _flatten(each)]
    if not found:
        raise ConfigError(f"{FOLDER}/ holds no manifests", fix="Copy those of Linkspan, or remove the folder")
    _refuse_twice(found)
    manifests = tuple(_cleaned(each.manifest) for each in found)
    app_deployment(manifests)
    size = len(manifests_json(manifests).encode())
    if size > MAX_BYTES:
        raise ConfigError(
            f"the manifests in {FOLDER}/ are too large for a label of the image",
            expected=f"at most {MAX_BYTES} bytes of JSON",
            found=size,
            fix="Put large files into the image or into a volume, not into ConfigMaps",
        )
    return manifests


def default_manifests() -> tuple[Manifest, ...]:
    """Linkspan's own, for an app that has none: k8s/app in the repository, linkspan/k8s in the wheel."""
    package = Path(__file__).parents[1]
    places = (package / "k8s", package.parent / "k8s" / "app")
    return load_folder(next(place for place in places if place.is_dir()))


def manifests_json(manifests: Sequence[Manifest]) -> str:
    """The text of the image label: to the byte the same for the same objects."""
    return json.dumps(manifests, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _read(folder: Path, root: Path) -> Iterator[_Found]:
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
        if path.suffix in {".yaml", ".yml"} and path.is_file():
            yield from _file(path, root)


def _kustomization(path: Path, root: Path) -> Iterator[_Found]:
    """What a kustomization.yaml brings. What it reaches is looked at first: nothing may come from afar."""
    if _is_plain(path, root, ()):
        yield from _resources(path, root)
        return
    where = _called(path, root)
    for line, each in documents(_kustomize(path.parent, where), f"what kustomize makes of {where}"):
        yield _Found(f"what kustomize makes of {where}, line {line}", each)


def _resources(path: Path, root: Path) -> Iterator[_Found]:
    for entry in _entries(_one(path, root), "resources", path, root):
        if entry.is_dir():
            yield from _resources(_kustomization_in(entry, path, root), root)
        else:
            yield from _file(entry, root)


def _is_plain(path: Path, root: Path, above: tuple[Path, ...]) -> bool:
    """Whether this file and those of the folders it lists only list files."""
    document = _one(path, root)
    plain = set(document) <= _PLAIN_KEYS and document.get("kind", "Kustomization") == "Kustomization"
    if path in above:
        raise ConfigError(f"{_called(path, root)} lists itself")
    for key in _LISTS_OF_FILES:
        for entry in _entries(document, key, path, root):
            if entry.is_dir():
                inner = _kustomization_in(entry, path, root)
                plain = _is_plain(inner, root, (*above, path)) and plain
    return plain


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
    return [_inside((path.parent / entry).resolve(), root, entry) for entry in listed]


def _kustomization_in(folder: Path, listed_by: Path, root: Path) -> Path:
    for name in _KUSTOMIZATIONS:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(
        f"{_called(listed_by, root)} lists {_called(folder, root)}/, which has no kustomization.yaml"
    )


def _file(path: Path, root: Path) -> Iterator[_Found]:
    where = _called(path, root)
    for line, each in documents(_text(path, root), where):
        yield _Found(f"{where}, line {line}", each)


def _text(path: Path, root: Path) -> str:
    where = _called(path, root)
    real = _inside(path.resolve(), root, where)
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


def _inside(path: Path, root: Path, called: str) -> Path:
    # A link to a file of the worker's would carry it into the image's label.
    if not path.is_relative_to(root):
        raise ConfigError(f"{called} leads out of {FOLDER}/", fix=f"Copy what is needed into {FOLDER}/")
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
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, "TMPDIR": home}
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
        said = done.stderr.decode(errors="replace").replace(str(folder), where.rpartition("/")[0]).strip()
        raise ConfigError(f"`{program} {word}` refuses {where}", found=said[-500:])
    return done.stdout.decode(errors="replace")


def _flatten(found: _Found) -> Iterator[_Found]:
    """The object, or those in a List; checks what all objects have."""
    where, manifest = found
    kind = manifest.get("kind")
    missing = [
        key for key in ("apiVersion", "kind") if not isinstance(manifest.get(key), str) or not manifest[key]
    ]
    if missing:
        raise ConfigError(f"{where}: no Kubernetes object: `{missing[0]}` is missing")
    if str(kind).endswith("List") and isinstance(manifest.get("items"), list):
        for item in manifest["items"]:
            if not isinstance(item, dict):
                raise ConfigError(f"{where}: `items` of {kind} must be objects")
            # The items of a typed list (kubectl get --raw) may leave both away.
            inherited = {"apiVersion": manifest["apiVersion"], "kind": str(kind).removesuffix("List")}
            yield from _flatten(_Found(where, {**(inherited if kind != "List" else {}), **item}))
        return
    metadata = manifest.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise ConfigError(
            f"{where}: {kind} has no metadata.name", fix="Give it one: generateName makes a new one each time"
        )
    for key in ("labels", "annotations"):
        pairs = metadata.get(key) or {}
        if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
            raise ConfigError(f"{where}: metadata.{key} of {kind}/{metadata['name']} must be text in quotes")
    if kind == "Secret" and "/" not in manifest["apiVersion"]:
        raise ConfigError(
            f"{where}: Secret/{metadata['name']} would be readable in the image's label",
            fix="Create it in the namespace beforehand and name it in the Deployment (secretKeyRef, envFrom)",
        )
    yield found


def _refuse_twice(found: Sequence[_Found]) -> None:
    seen: dict[tuple[str, str, str], str] = {}
    for where, manifest in found:
        group = manifest["apiVersion"].rpartition("/")[0]
        key = (group, manifest["kind"], manifest["metadata"]["name"])
        if key in seen:
            raise ConfigError(
                f"{where}: {key[1]}/{key[2]} stands twice",
                found=f"also in {seen[key]}",
                fix="Remove one; a folder of variants needs a kustomization.yaml that says which to apply",
            )
        seen[key] = where


def _cleaned(manifest: Manifest) -> Manifest:
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in _SERVER_SIDE}
    if annotations := metadata.get("annotations"):
        metadata["annotations"] = {key: each for key, each in annotations.items() if key != _LAST_APPLIED}
    kept = {key: value for key, value in manifest.items() if key != "status"}
    return {**kept, "metadata": metadata}
