"""The linker: a code image and a model layer become a release's image, by pure functions on values.

No bytes of either move. A manifest that lists both is computed, to the bit the same for the same input, and
the labels in it are all that is needed to read the release back.
"""

from linkspan.config import AppConfig
from linkspan.errors import ReleaseError
from linkspan.ledger.labels import COMMIT, MODEL, REVISION, config_of, labels_of, read_code_image
from linkspan.nouns import Commit, Layer, Model, short
from linkspan.registry import media
from linkspan.registry.media import Document, Image, Manifest, canonical, descriptor

# Which layer media type goes with which manifest; both mean a tar that is not compressed.
_LAYERS = {media.OCI_MANIFEST: media.OCI_LAYER, media.DOCKER_MANIFEST: media.DOCKER_LAYER}


def link(code: Image, model: Model, layer: Layer, path: str, *, commit: Commit | None = None) -> Image:
    """The image of a release: `code` plus `layer`, which holds `model`'s files at the absolute `path`.

    `commit` replaces the one that the code image was built from, for a later commit with the same tree.
    Raises ReleaseError for anything that would not run: an index, an image that is not ours, that holds a
    model already, that takes another model, or an empty layer.
    """
    built, app = read_code_image(code)
    commit = commit or built
    _check(code, model, layer, app)
    if commit.tree != built.tree:
        raise ReleaseError(
            f"code image {short(code.digest)} was not built from commit {short(commit.sha)}",
            expected=f"tree {commit.tree}",
            found=built.tree,
        )
    config = _linked_config(code, model, layer, path, commit)
    manifest = code.manifest.document
    manifest["config"] = descriptor(manifest["config"]["mediaType"], config)
    manifest["layers"] = [
        *manifest["layers"],
        {
            "mediaType": _LAYERS[code.manifest.media_type],
            "digest": layer.digest,
            "size": layer.size,
        },
    ]
    return Image(Manifest(canonical(manifest), code.manifest.media_type), config)


def _check(code: Image, model: Model, layer: Layer, app: AppConfig) -> None:
    what = f"code image {short(code.digest)} of {app.name}"
    code.verify()
    if code.manifest.media_type not in _LAYERS:
        raise ReleaseError(
            f"{what} cannot be linked", expected="an image manifest", found=code.manifest.media_type
        )
    if MODEL in labels_of(code):
        raise ReleaseError(f"{what} holds a model already", fix="Link the code image, not a release")
    if model.name != app.model.name:
        raise ReleaseError(
            f"{what} takes another model",
            expected=app.model.name,
            found=model.name,
            fix="Mend model.name in linkspan.toml",
        )
    if layer.size == 0:
        raise ReleaseError(f"the layer of model {model.name} {model.version} is empty")
    layers, diff_ids = code.manifest.document.get("layers"), config_of(code).get("rootfs", {}).get("diff_ids")
    if not isinstance(layers, list) or not isinstance(diff_ids, list) or len(layers) != len(diff_ids):
        raise ReleaseError(f"{what}: its manifest and its config do not list the same layers")


def _linked_config(code: Image, model: Model, layer: Layer, path: str, commit: Commit) -> bytes:
    document = config_of(code)
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
    run["Labels"] = {
        **run["Labels"],
        COMMIT: commit.model_dump_json(),
        MODEL: model.model_dump_json(),
        REVISION: commit.sha,
    }
    ours = {
        "LINKSPAN_COMMIT": commit.sha,
        "LINKSPAN_MODEL_NAME": model.name,
        "LINKSPAN_MODEL_VERSION": model.version,
        "LINKSPAN_MODEL_DIGEST": model.digest,
        "LINKSPAN_MODEL_PATH": path,
    }
    kept = [line for line in run.get("Env") or [] if line.partition("=")[0] not in ours]
    run["Env"] = kept + [f"{name}={value}" for name, value in ours.items()]
    return canonical(document)
