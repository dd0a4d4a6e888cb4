"""The labels of our images: written by these functions, and read back, once, by `read_code_image`."""

import json
import re
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from linkspan.config import AppConfig, config_json, parse_config_json
from linkspan.errors import ConfigError, ReleaseError
from linkspan.ledger.values import CodeImage
from linkspan.nouns import Commit, Digest, Model, short
from linkspan.registry.media import Document, Image, parse

APP: Final = "dev.linkspan.app"
COMMIT: Final = "dev.linkspan.commit"
CONFIG: Final = "dev.linkspan.config"
OBJECTS: Final = "dev.linkspan.manifests"
MODEL: Final = "dev.linkspan.model"
MOUNTED: Final = "dev.linkspan.model-image"
REVISION: Final = "org.opencontainers.image.revision"


def code_labels(
    app: str, commit: Commit, config: AppConfig, objects: Sequence[Document] = ()
) -> dict[str, str]:
    """The labels of a code image: all that is needed to link it and to roll it out.

    `objects` are the app's own Kubernetes objects; there is no label for none.
    """
    labels = {APP: app, COMMIT: commit.model_dump_json(), CONFIG: config_json(config)}
    return labels | ({OBJECTS: objects_json(objects)} if objects else {})


def release_labels(commit: Commit, model: Model, mounted: Digest | None = None) -> dict[str, str]:
    """What a release's image has besides the labels of its code image.

    `mounted` is the model's image, if the release mounts one: so its own digest names both halves.
    """
    labels = {COMMIT: commit.model_dump_json(), MODEL: model.model_dump_json(), REVISION: commit.sha}
    return labels | ({MOUNTED: mounted} if mounted else {})


def mounted_by(image: Image) -> Digest | None:
    """The image that a release mounts for its model; None if it holds the model itself.

    Raises ReleaseError for what is no digest: nothing else may decide what a container sees.
    """
    found = labels_of(image).get(MOUNTED)
    if found is not None and not re.fullmatch("sha256:[0-9a-f]{64}", found):
        raise ReleaseError(
            f"release {short(image.digest)} mounts something else than an image by digest",
            expected="sha256:...",
            found=found[:100],
        )
    return found


def read_code_image(image: Image) -> CodeImage:
    """What `code_labels` wrote, of a code image or of a release. Raises ReleaseError for any other image."""
    labels = labels_of(image)
    try:
        commit = Commit.model_validate_json(labels[COMMIT])
        config = parse_config_json(labels[CONFIG])
        objects = json.loads(labels.get(OBJECTS, "[]"))
        if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
            raise ValueError(f"{OBJECTS} is no list of objects")
    except (KeyError, ValueError, ConfigError) as error:
        raise ReleaseError(
            f"image {short(image.digest)} is no code image of Linkspan",
            found=_problem(error),
            fix="Delete its tag, so that it is made again",
        ) from None
    return CodeImage(commit=commit, config=config, digest=image.digest, objects=tuple(objects))


def labels_of(image: Image) -> dict[str, str]:
    """All labels of an image. Raises ReleaseError for an index, which has none."""
    if image.manifest.is_index:
        raise ReleaseError(
            f"{image.digest} is an index of images for several platforms",
            fix="Take the image for one platform",
        )
    return (config_of(image).get("config") or {}).get("Labels") or {}


def config_of(image: Image) -> Document:
    """The image's configuration (OCI image-spec config.md)."""
    return parse(image.config, f"config of image {short(image.digest)}")


def objects_json(objects: Sequence[Document]) -> str:
    """The text of the label: to the byte the same for the same objects."""
    return json.dumps(objects, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _problem(error: Exception) -> str:
    match error:
        case KeyError():
            return f"no label {error}"
        case ConfigError():
            return error.what
        case ValidationError():
            first = error.errors()[0]
            return json.dumps({"field": ".".join(map(str, first["loc"])), "problem": first["msg"]})
        case _:
            return str(error)
