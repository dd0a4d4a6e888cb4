"""Code images, models and layers as values, for tests of everything that links them."""

import hashlib
import io
import tarfile
from datetime import UTC, datetime
from typing import Any

from linkspan.config import AppConfig
from linkspan.ledger.labels import APP, MODEL, code_labels, labels_of, read_code_image
from linkspan.ledger.values import MountPoint
from linkspan.nouns import Commit, Layer, Model, ModelFile, Release, sha256
from linkspan.registry import media
from linkspan.registry.media import Image, Manifest, canonical, descriptor
from linkspan.release.link import link
from tests.values import model_of

COMMIT = Commit(
    sha="3fa9c1d" + "0" * 33,
    tree="b" * 40,
    author="Ann <ann@example.com>",
    subject='Says "héllo" to \\ everybody',
    committed_at=datetime(2026, 11, 22, 12, 0, tzinfo=UTC),
)
CONFIG = AppConfig.model_validate(
    {
        "name": "digits",
        "model": {"name": "digits", "path": "/model"},
        "smoke": {
            "method": "POST",
            "path": "/score",
            "json": {"input": '["é"]'},
            "expect_json": {"n": [1, None]},
        },
        "environments": {"production": {"replicas": 3, "env": {"A": "b=c"}}},
    }
)


def tar_of(files: dict[str, bytes], **attributes: Any) -> bytes:
    """A tar of files, or of directories where the name ends in a slash; `attributes` are TarInfo's."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.size = len(content)
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            for key, value in attributes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


CODE_LAYER = tar_of({"app/main.py": b"print('the code')"})
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"


def files_with(contents: dict[str, bytes]) -> tuple[ModelFile, ...]:
    return tuple(
        ModelFile(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in contents.items()
    )


FILES = files_with({"model.onnx": b"weights", "labels.txt": b"0 1 2"})
"""Those of `a_model`."""


def a_model(files: tuple[ModelFile, ...] = FILES, version: str = "v12") -> Model:
    return model_of(
        files,
        name="digits",
        version=version,
        metrics={"accuracy": 0.97},
        published_by="bob",
        published_at=datetime(2026, 11, 1, tzinfo=UTC),
    )


def a_layer(data: bytes = b"the model's layer") -> Layer:
    digest = sha256(data)
    return Layer(digest=digest, diff_id=digest, size=len(data), media_type=media.MODEL_LAYER)


def a_code_image(
    kind: str = media.DOCKER_MANIFEST,
    *,
    labels: dict[str, str] | None = None,
    layer: bytes = b"",
    **changes: Any,
) -> Image:
    """A code image with one uncompressed layer; `changes` replace top-level fields of the config."""
    layer = layer or CODE_LAYER
    document: dict[str, Any] = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-11-22T12:00:00.123456789Z",
        "config": {
            "Env": ["PATH=/bin", "LINKSPAN_COMMIT=stale"],
            "Cmd": ["gunicorn"],
            "User": "app",
            "Labels": code_labels("digits", COMMIT, CONFIG) if labels is None else labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
        "history": [{"created": "2026-11-22T12:00:00Z", "created_by": "COPY . /app"}],
        "variant-of-the-future": {"kept": [1, 2.5, "é"]},
    }
    config = canonical(document | changes)
    docker = kind == media.DOCKER_MANIFEST
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": descriptor(DOCKER_CONFIG if docker else OCI_CONFIG, config),
        "layers": [descriptor(media.DOCKER_LAYER if docker else media.OCI_LAYER, layer)],
    }
    return Image(Manifest(canonical(manifest), kind), config)


def linked(image: Image, model: Model, layer: Layer, path: str = "/model") -> Image:
    """A release of an image whose linkspan.toml has the model at `path`, where the image holds nothing."""
    code = read_code_image(image)
    config = code.config.model_copy(update={"model": code.config.model.model_copy(update={"path": path})})
    moved = code.model_copy(update={"config": config})
    return link(image, moved, model, [layer], found=MountPoint()).image


def read_release(image: Image) -> Release:
    """The release that an image says it is."""
    labels = labels_of(image)
    return Release(
        app=labels[APP],
        commit=read_code_image(image).commit,
        model=Model.model_validate_json(labels[MODEL]),
        image=image.digest,
    )
