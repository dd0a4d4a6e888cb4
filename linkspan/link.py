"""The linker: a code image and a model layer become a release's image, by pure functions on values.

No bytes of either move. A manifest that lists both is computed, to the bit the same for the same input, and
the labels in it are all that is needed to read the release back.
"""

import json
from collections.abc import Sequence

from pydantic import ValidationError

from linkspan.config import AppConfig, config_json, parse_config_json
from linkspan.errors import ConfigError, ReleaseError
from linkspan.nouns import Commit, Digest, Layer, Model, Release, short
from linkspan.registry import media
from linkspan.registry.media import Document, Image, Manifest, canonical, descriptor, parse
from linkspan.runtimes.kube_manifests import manifests_json

APP = "dev.linkspan.app"
COMMIT = "dev.linkspan.commit"
CONFIG = "dev.linkspan.config"
MANIFESTS = "dev.linkspan.manifests"
MODEL = "dev.linkspan.model"
REVISION = "org.opencontainers.image.revision"

# Which layer media type goes with which manifest; both mean a tar that is not compressed.
_LAYERS = {media.OCI_MANIFEST: media.OCI_LAYER, media.DOCKER_MANIFEST: media.DOCKER_LAYER}


def code_labels(
    app: str, commit: Commit, config: AppConfig, manifests: Sequence[Document] = ()
) -> dict[str, str]:
    """The labels of a code image: all that is needed to link it and to roll it out.

    `manifests` are the app's own Kubernetes objects; there is no label for none.
    """
    labels = {APP: app, COMMIT: commit.model_dump_json(), CONFIG: config_json(config)}
    return labels | ({MANIFESTS: manifests_json(manifests)} if manifests else {})


def read_code_image(image: Image) -> tuple[Commit, AppConfig]:
    """What `code_labels` wrote. Raises ReleaseError for an image that Linkspan did not build."""
    labels = _labels(image)
    try:
        commit = Commit.model_validate_json(labels[COMMIT])
        return commit, parse_config_json(labels[CONFIG])
    except (KeyError, ValidationError, ConfigError) as error:
        raise _foreign(image, "code image", error) from None


def read_manifests(image: Image) -> tuple[Document, ...]:
    """The app's own Kubernetes objects, of a code image or of a release; none if it has none.

    Raises ReleaseError for a label that Linkspan did not write.
    """
    try:
        found = json.loads(_labels(image).get(MANIFESTS, "[]"))
    except ValueError as error:
        raise _foreign(image, "code image", error) from None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise _foreign(image, "code image", ValueError(f"{MANIFESTS} is no list of objects"))
    return tuple(found)


def read_release(image: Image, digest: Digest) -> Release:
    """The release that an image is; `digest` is what it was asked for by. Raises ReleaseError."""
    if image.digest != digest:
        raise ReleaseError("image of a release", expected=digest, found=image.digest)
    labels = _labels(image)
    try:
        return Release(
            app=labels[APP],
            commit=Commit.model_validate_json(labels[COMMIT]),
            model=Model.model_validate_json(labels[MODEL]),
            image=digest,
        )
    except (KeyError, ValidationError) as error:
        raise _foreign(image, "release", error) from None


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
    if MODEL in _labels(code):
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
    layers, diff_ids = code.manifest.document.get("layers"), _config(code).get("rootfs", {}).get("diff_ids")
    if not isinstance(layers, list) or not isinstance(diff_ids, list) or len(layers) != len(diff_ids):
        raise ReleaseError(f"{what}: its manifest and its config do not list the same layers")


def _linked_config(code: Image, model: Model, layer: Layer, path: str, commit: Commit) -> bytes:
    document = _config(code)
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


def _config(image: Image) -> Document:
    return parse(image.config, f"config of image {short(image.digest)}")


def _labels(image: Image) -> dict[str, str]:
    if image.manifest.is_index:
        raise ReleaseError(
            f"{image.digest} is an index of images for several platforms",
            fix="Take the image for one platform",
        )
    return (_config(image).get("config") or {}).get("Labels") or {}


def _foreign(image: Image, kind: str, error: Exception) -> ReleaseError:
    missing = f"no label {error}" if isinstance(error, KeyError) else _first_problem(error)
    return ReleaseError(
        f"image {short(image.digest)} is no {kind} of Linkspan",
        found=missing,
        fix="Delete its tag, so that it is made again",
    )


def _first_problem(error: Exception) -> str:
    if isinstance(error, ConfigError):
        return error.what
    if not isinstance(error, ValidationError):
        return str(error)
    problem = error.errors()[0]
    return json.dumps({"field": ".".join(map(str, problem["loc"])), "problem": problem["msg"]})
