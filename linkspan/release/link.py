"""The linker: a code image and a model layer become a release's image, by pure functions on values.

No bytes of either move. A manifest that lists both is computed, to the bit the same for the same input, and
the labels in it are all that is needed to read the release back.
"""

from linkspan.errors import ReleaseError
from linkspan.ledger.labels import MODEL, config_of, labels_of, release_labels
from linkspan.ledger.values import CodeImage
from linkspan.nouns import Layer, Model, short
from linkspan.registry import media
from linkspan.registry.media import Document, Image, Manifest, canonical, descriptor

# Which layer media type goes with which manifest; both mean a tar that is not compressed.
_LAYERS = {media.OCI_MANIFEST: media.OCI_LAYER, media.DOCKER_MANIFEST: media.DOCKER_LAYER}


def link(image: Image, code: CodeImage, model: Model, layer: Layer) -> Image:
    """The image of a release: `image`, whose labels are `code`, plus `layer`.

    The layer holds `model`'s files below the code's `model.path`. Raises ReleaseError for anything that would
    not run: an image that holds a model already, that takes another model, or an empty layer.
    """
    _check(image, code, model, layer)
    config = _linked_config(image, code, model, layer)
    manifest = image.manifest.document
    manifest["config"] = descriptor(manifest["config"]["mediaType"], config)
    manifest["layers"] = [
        *manifest["layers"],
        {"mediaType": _LAYERS[image.manifest.media_type], "digest": layer.digest, "size": layer.size},
    ]
    return Image(Manifest(canonical(manifest), image.manifest.media_type), config)


def _check(image: Image, code: CodeImage, model: Model, layer: Layer) -> None:
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
    if layer.size == 0:
        raise ReleaseError(f"the layer of model {model.name} {model.version} is empty")
    layers, diff_ids = (
        image.manifest.document.get("layers"),
        config_of(image).get("rootfs", {}).get("diff_ids"),
    )
    if not isinstance(layers, list) or not isinstance(diff_ids, list) or len(layers) != len(diff_ids):
        raise ReleaseError(f"{what}: its manifest and its config do not list the same layers")


def _linked_config(image: Image, code: CodeImage, model: Model, layer: Layer) -> bytes:
    document, path = config_of(image), code.config.model.path
    document["rootfs"]["diff_ids"] = [*document["rootfs"]["diff_ids"], layer.diff_id]
    entry: Document = {
        "created_by": f"linkspan link {model.name} {model.version} {path}",
        "comment": "linkspan",
    }
    # The code image's own time: a clock would make every link different.
    if "created" in document:
        entry["created"] = document["created"]
    document["history"] = [*(document.get("history") or []), entry]
    run = document["config"]
    run["Labels"] = {**run["Labels"], **release_labels(code.commit, model)}
    ours = {
        "LINKSPAN_COMMIT": code.commit.sha,
        "LINKSPAN_MODEL_NAME": model.name,
        "LINKSPAN_MODEL_VERSION": model.version,
        "LINKSPAN_MODEL_DIGEST": model.digest,
        "LINKSPAN_MODEL_PATH": path,
    }
    kept = [line for line in run.get("Env") or [] if line.partition("=")[0] not in ours]
    run["Env"] = kept + [f"{name}={value}" for name, value in ours.items()]
    return canonical(document)
