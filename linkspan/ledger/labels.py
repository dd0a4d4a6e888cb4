"""The labels of our images: written here, and read back here."""

import json
from collections.abc import Sequence

from pydantic import ValidationError

from linkspan.config import AppConfig, config_json, parse_config_json
from linkspan.errors import ConfigError, ReleaseError
from linkspan.nouns import Commit, short
from linkspan.registry.media import Document, Image, parse

APP = "dev.linkspan.app"
COMMIT = "dev.linkspan.commit"
CONFIG = "dev.linkspan.config"
OBJECTS = "dev.linkspan.manifests"
MODEL = "dev.linkspan.model"
REVISION = "org.opencontainers.image.revision"


def code_labels(
    app: str, commit: Commit, config: AppConfig, objects: Sequence[Document] = ()
) -> dict[str, str]:
    """The labels of a code image: all that is needed to link it and to roll it out.

    `objects` are the app's own Kubernetes ones; there is no label for none.
    """
    labels = {APP: app, COMMIT: commit.model_dump_json(), CONFIG: config_json(config)}
    return labels | ({OBJECTS: objects_json(objects)} if objects else {})


def read_code_image(image: Image) -> tuple[Commit, AppConfig]:
    """What `code_labels` wrote. Raises ReleaseError for an image that Linkspan did not build."""
    labels = labels_of(image)
    try:
        commit = Commit.model_validate_json(labels[COMMIT])
        return commit, parse_config_json(labels[CONFIG])
    except (KeyError, ValidationError, ConfigError) as error:
        raise _foreign(image, error) from None


def read_objects(image: Image) -> tuple[Document, ...]:
    """The app's own Kubernetes objects, of a code image or of a release; none if it has none.

    Raises ReleaseError for a label that Linkspan did not write.
    """
    try:
        found = json.loads(labels_of(image).get(OBJECTS, "[]"))
    except ValueError as error:
        raise _foreign(image, error) from None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise _foreign(image, ValueError(f"{OBJECTS} is no list of objects"))
    return tuple(found)


def labels_of(image: Image) -> dict[str, str]:
    if image.manifest.is_index:
        raise ReleaseError(
            f"{image.digest} is an index of images for several platforms",
            fix="Take the image for one platform",
        )
    return (config_of(image).get("config") or {}).get("Labels") or {}


def config_of(image: Image) -> Document:
    return parse(image.config, f"config of image {short(image.digest)}")


def _foreign(image: Image, error: Exception) -> ReleaseError:
    missing = f"no label {error}" if isinstance(error, KeyError) else _first_problem(error)
    return ReleaseError(
        f"image {short(image.digest)} is no code image of Linkspan",
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


def objects_json(objects: Sequence[Document]) -> str:
    """The text of the image label: to the byte the same for the same objects."""
    return json.dumps(objects, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
