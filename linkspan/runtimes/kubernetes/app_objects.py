"""An app's own Kubernetes objects, from the folder k8s/ beside its linkspan.toml.

They travel in a label of the code image, so that a release says itself what it needs of a cluster: hence no
Secrets, and a cap on the size.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from linkspan.errors import ConfigError
from linkspan.ledger.labels import objects_json
from linkspan.runtimes.base import KubeObject
from linkspan.runtimes.kubernetes.folder import FOLDER, Found, inside, read_folder
from linkspan.runtimes.kubernetes.marks import IMAGE
from linkspan.runtimes.kubernetes.objects import app_deployment, as_written

MAX_BYTES: Final = 128 * 1024
"""Of all objects as JSON. The Docker Engine takes labels in an address of at most 1 MiB, where a byte of JSON
may need six."""

_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


def load(app: Path) -> tuple[KubeObject, ...]:
    """The objects in the folder k8s/ of an app's folder, in its order; none if there is no such folder.

    Raises ConfigError that names file and line: for what is no YAML and no object, twice the same object,
    Secrets, more than MAX_BYTES, none or several Deployments with the placeholder image, or kustomize's
    features where there is no `kubectl` or `kustomize`.
    """
    folder = app / FOLDER
    if not folder.exists():
        return ()
    inside(folder.resolve(), app.resolve(), f"{FOLDER}/")
    return load_folder(folder)


def load_folder(folder: Path) -> tuple[KubeObject, ...]:
    """`load` of a folder of manifests."""
    found = [plain for each in read_folder(folder) for plain in _flatten(each)]
    if not found:
        raise ConfigError(f"{FOLDER}/ holds no manifests", fix="Copy those of Linkspan, or remove the folder")
    _refuse_twice(found)
    objects = tuple(_cleaned(each.obj) for each in found)
    app_deployment(objects)
    size = len(objects_json(objects).encode())
    if size > MAX_BYTES:
        raise ConfigError(
            f"the manifests in {FOLDER}/ are too large for a label of the image",
            expected=f"at most {MAX_BYTES} bytes of JSON",
            found=size,
            fix="Put large files into the image or into a volume, not into ConfigMaps",
        )
    return objects


def default_objects() -> tuple[KubeObject, ...]:
    """Linkspan's own, for an app that has none: k8s/app in the repository, linkspan/k8s in the wheel."""
    package = Path(__file__).parents[2]
    places = (package / "k8s", package.parent / "k8s" / "app")
    return load_folder(next(place for place in places if place.is_dir()))


def _flatten(found: Found) -> Iterator[Found]:
    """The object, or those in a List; checks what all objects have."""
    where, obj = found
    kind = obj.get("kind")
    missing = [key for key in ("apiVersion", "kind") if not isinstance(obj.get(key), str) or not obj[key]]
    if missing:
        raise ConfigError(
            f"{where}: no Kubernetes object: `{missing[0]}` is missing",
            fix="If other files lie there too, list the manifests in a kustomization.yaml; a Helm chart "
            "must be rendered first, with `helm template`",
        )
    if str(kind).endswith("List") and isinstance(obj.get("items"), list):
        for item in obj["items"]:
            if not isinstance(item, dict):
                raise ConfigError(f"{where}: `items` of {kind} must be objects")
            # The items of a typed list (kubectl get --raw) may leave both away.
            inherited = {"apiVersion": obj["apiVersion"], "kind": str(kind).removesuffix("List")}
            yield from _flatten(Found(where, {**(inherited if kind != "List" else {}), **item}))
        return
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise ConfigError(
            f"{where}: {kind} has no metadata.name", fix="Give it one: generateName makes a new one each time"
        )
    for key in ("labels", "annotations"):
        pairs = metadata.get(key) or {}
        if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
            raise ConfigError(f"{where}: metadata.{key} of {kind}/{metadata['name']} must be text in quotes")
    if kind == "Secret" and "/" not in obj["apiVersion"]:
        raise ConfigError(
            f"{where}: Secret/{metadata['name']} would be readable in the image's label",
            fix="Create it in the namespace beforehand and name it in the Deployment (secretKeyRef, envFrom)",
        )
    yield found


def _refuse_twice(found: Sequence[Found]) -> None:
    seen: dict[tuple[str, str, str], str] = {}
    for where, obj in found:
        group = obj["apiVersion"].rpartition("/")[0]
        key = (group, obj["kind"], obj["metadata"]["name"])
        if key in seen:
            raise ConfigError(
                f"{where}: {key[1]}/{key[2]} stands twice",
                found=f"also in {seen[key]}",
                fix="Remove one; a folder of variants needs a kustomization.yaml that says which to apply",
            )
        seen[key] = where


def _cleaned(obj: KubeObject) -> KubeObject:
    obj = as_written(obj)
    if annotations := obj["metadata"].get("annotations"):
        # Of a copy of what runs: our mark of a rendered Deployment would stand for the placeholder.
        copied = {_LAST_APPLIED, IMAGE}
        kept = {key: each for key, each in annotations.items() if key not in copied}
        obj["metadata"]["annotations"] = kept
    return obj
