"""The linker: a code image and a model's layers become a release's image, by pure functions on values.

No bytes of either move. A manifest that lists both is computed, to the bit the same for the same input, and
the labels in it are all that is needed to read the release back.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from linkspan.errors import ReleaseError
from linkspan.ledger.labels import MODEL, MOUNTED, config_of, labels_of, release_labels
from linkspan.ledger.values import CodeImage, MountPoint, no_room
from linkspan.nouns import Digest, Layer, Model, short
from linkspan.registry import media
from linkspan.registry.media import Document, Image, Manifest, canonical, descriptor
from linkspan.release.layout import Stratum, layout, strata

T = TypeVar("T")

# Which layer media type goes with which manifest; both mean a tar that is not compressed.
_LAYERS = {media.OCI_MANIFEST: media.OCI_LAYER, media.DOCKER_MANIFEST: media.DOCKER_LAYER}
_MOST_LAYERS = 125  # moby layer/layer.go, maxLayerDepth; containerd takes more


class Linked(NamedTuple):
    """A release's image, how its layers lie, bottom first, and the image that it mounts, if it does."""

    image: Image
    strata: tuple[Stratum, ...]
    mounted: Image | None = None


def link(
    image: Image,
    code: CodeImage,
    model: Model,
    layers: Sequence[Layer],
    *,
    found: MountPoint,
    paths: Collection[str] = (),
    directories: Layer | None = None,
) -> Linked:
    """The image of a release: `image`, whose labels are `code`, with `layers` among its own (layout.py).

    The layers hold `model`'s files below the code's `model.path`; `found` is what the image holds there,
    `paths` are the model's files if it holds directories below it, and `directories` is a layer that gives
    the image's directories back what they were, if that is needed. Raises ReleaseError for anything that
    would not run: an image that holds a model already, takes another model or has something in the model's
    way, an empty layer, more layers than an engine takes.
    """
    check(image, code, model, layers, found, paths)
    manifest = image.manifest.document
    sizes = [entry["size"] for entry in manifest["layers"]]
    placed: dict[int, list[Layer]] = {}
    for layer, below in zip(layers, layout(sizes, [each.size for each in layers]), strict=True):
        placed.setdefault(below, []).append(layer)
    for together in placed.values():
        together[:] = heaviest_first(together)
    if directories:  # above all that may have changed them
        placed[max(placed)].append(directories)
    if (count := len(sizes) + sum(map(len, placed.values()))) > _MOST_LAYERS:
        raise ReleaseError(
            f"code image {short(image.digest)} of {code.config.name} and model {model.name} {model.version} "
            "have too many layers",
            expected=f"at most {_MOST_LAYERS}",
            found=f"{len(sizes)} and {count - len(sizes)}",
            fix="Join RUN and COPY lines of the Dockerfile",
        )
    entries = {
        below: [layer_entry(layer, image.manifest.media_type) for layer in together]
        for below, together in placed.items()
    }
    manifest["layers"] = _woven(manifest["layers"], entries)
    return Linked(
        configured(manifest, image.manifest.media_type, _linked_config(image, code, model, placed)),
        strata(sizes, {below: [each.size for each in together] for below, together in placed.items()}),
    )


def configured(manifest: Document, media_type: str, config: Document) -> Image:
    """The image of a code image's manifest, changed or not, with another config."""
    data = canonical(config)
    changed = {**manifest, "config": descriptor(manifest["config"]["mediaType"], data)}
    return Image(Manifest(canonical(changed), media_type), data)


def heaviest_first(layers: Iterable[Layer]) -> list[Layer]:
    """A model's neighbouring layers, bottom first: in whatever order they come, they lie in one."""
    return sorted(layers, key=lambda layer: (-layer.size, layer.digest))


def layer_entry(layer: Layer, manifest_type: str) -> Document:
    """A model's layer as a manifest of this type lists it."""
    return {"mediaType": _LAYERS[manifest_type], "digest": layer.digest, "size": layer.size}


def _woven(
    code: Iterable[T], placed: Mapping[int, Sequence[T]], counts: Callable[[T], bool] = lambda _: True
) -> list[T]:
    """The code's items with those of `placed` among them, by how many of the code's that count lie below."""
    woven = list(placed.get(0, ()))
    below = 0
    for item in code:
        woven.append(item)
        if counts(item):
            below += 1
            woven += placed.get(below, ())
    for more in sorted(number for number in placed if number > below):
        woven += placed[more]
    return woven


def check(
    image: Image,
    code: CodeImage,
    model: Model,
    layers: Sequence[Layer],
    found: MountPoint,
    paths: Collection[str],
) -> None:
    """Raises ReleaseError for a pair that is none, or would not run, as `link` says."""
    what = f"code image {short(image.digest)} of {code.config.name}"
    if code.digest != image.digest:
        raise ReleaseError(f"{what} is not the one that was read", expected=code.digest, found=image.digest)
    image.verify()
    if image.manifest.media_type not in _LAYERS:
        raise ReleaseError(
            f"{what} cannot be linked", expected="an image manifest", found=image.manifest.media_type
        )
    if MODEL in labels_of(image):
        raise ReleaseError(f"{what} holds a model already", fix="Link the code image, not a release")
    if model.name != code.config.model.name:
        raise ReleaseError(
            f"{what} takes another model",
            expected=code.config.model.name,
            found=model.name,
            fix="Mend model.name in linkspan.toml",
        )
    if not all(layer.size for layer in layers):
        raise ReleaseError(f"a layer of model {model.name} {model.version} is empty")
    listed, diff_ids = (
        image.manifest.document.get("layers"),
        config_of(image).get("rootfs", {}).get("diff_ids"),
    )
    if not isinstance(listed, list) or not isinstance(diff_ids, list) or len(listed) != len(diff_ids):
        raise ReleaseError(f"{what}: its manifest and its config do not list the same layers")
    folder = code.config.model.path
    obstacles = [*found.obstacles]
    obstacles += [
        f"{path} is a directory, and a file of model {model.name} {model.version}"
        for name in paths
        if (path := f"{folder}/{name}") in found.directories
    ]
    if obstacles:
        raise no_room(ReleaseError, what, folder, "; ".join(obstacles[:3]))


def _linked_config(
    image: Image, code: CodeImage, model: Model, placed: Mapping[int, Sequence[Layer]]
) -> Document:
    document = release_config(image, code, model)
    diff_ids = {below: [layer.diff_id for layer in together] for below, together in placed.items()}
    document["rootfs"]["diff_ids"] = _woven(document["rootfs"]["diff_ids"], diff_ids)
    # OCI image-spec config.md, "history": an entry for each layer, and some for none.
    entry = history_entry(document, f"link {model.name} {model.version} {code.config.model.path}")
    entries = {below: [entry] * len(together) for below, together in placed.items()}
    document["history"] = _woven(
        document.get("history") or [], entries, lambda each: not each.get("empty_layer")
    )
    return document


def release_config(image: Image, code: CodeImage, model: Model, mounted: Digest | None = None) -> Document:
    """The code image's config with a release's labels and variables; its layers are still the code's."""
    document = config_of(image)
    run = document["config"]
    # A Dockerfile says nothing of what a release mounts.
    theirs = {name: value for name, value in run["Labels"].items() if name != MOUNTED}
    run["Labels"] = {**theirs, **release_labels(code.commit, model, mounted)}
    ours = {
        "LINKSPAN_COMMIT": code.commit.sha,
        "LINKSPAN_MODEL_NAME": model.name,
        "LINKSPAN_MODEL_VERSION": model.version,
        "LINKSPAN_MODEL_DIGEST": model.digest,
        "LINKSPAN_MODEL_PATH": code.config.model.path,
    }
    kept = [line for line in run.get("Env") or [] if line.partition("=")[0] not in ours]
    run["Env"] = kept + [f"{name}={value}" for name, value in ours.items()]
    return document


def history_entry(config: Document, done: str) -> Document:
    """What `linkspan` did, for `docker history`."""
    entry: Document = {"created_by": f"linkspan {done}", "comment": "linkspan"}
    # The code image's own time: a clock would make every link different.
    return entry | ({"created": config["created"]} if "created" in config else {})
