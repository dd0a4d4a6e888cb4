"""A validated model as an artifact of its own: a CNCF ModelPack manifest over the layers that releases share.

https://github.com/modelpack/model-spec docs/spec.md and docs/config.md. The blobs are the very ones that a
release lists as layers; only their media type differs there. The Model stands in an annotation, because the
specification's config admits no fields of ours. Its files are listed in a blob of their own, the last layer,
whose digest is the Model's.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from pydantic import ValidationError

from linkspan.errors import ModelCorrupt
from linkspan.ledger.labels import MODEL
from linkspan.nouns import Layer, Model, ModelFile, listed, listing
from linkspan.registry import media
from linkspan.registry.client import Registry
from linkspan.registry.media import Document, Image, Manifest, canonical, descriptor, parse

# Of a quarter of a million files with long names.
_LISTING_CAP = 64 << 20
_FILEPATH = "org.cncf.model.filepath"
FINGERPRINT = "dev.linkspan.fingerprint"

# docs/config.md, "format": what the specification gives as examples.
_FORMATS = {
    ".onnx": "onnx",
    ".safetensors": "safetensors",
    ".gguf": "gguf",
    ".pt": "pt",
    ".pth": "pt",
    ".model": "",
}


def modelpack(
    model: Model,
    files: Sequence[ModelFile],
    layers: Sequence[Layer],
    fingerprint: str = "",
    annotations: Mapping[str, str] | None = None,
) -> Image:
    """The ModelPack manifest and config of a model whose `files` are in `layers`. Equal input, equal bytes.

    The blob with their `listing` must be pushed beside them.
    """
    described: Document = {"name": model.name, "version": model.version}
    if model.published_at:
        described["createdAt"] = model.published_at.isoformat()
    if model.published_by:
        described["authors"] = [model.published_by]
    formats = {_FORMATS.get(PurePosixPath(file.path).suffix.lower(), "") for file in files} - {""}
    config = canonical(
        {
            "descriptor": described,
            "config": {"format": formats.pop()} if len(formats) == 1 else {},
            "modelfs": {"type": "layers", "diffIds": [*(each.diff_id for each in layers), model.digest]},
        }
    )
    manifest: Document = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "artifactType": media.MODEL_MANIFEST,
        "config": descriptor(media.MODEL_CONFIG, config),
        "layers": [
            *({"mediaType": media.MODEL_LAYER, "digest": each.digest, "size": each.size} for each in layers),
            descriptor(media.MODEL_FILES, listing(files)) | {"annotations": {_FILEPATH: "files.txt"}},
        ],
        "annotations": {
            "org.opencontainers.image.title": f"{model.name} {model.version}",
            "org.opencontainers.image.version": model.version,
            **(annotations or {}),
            MODEL: model.model_dump_json(),
            FINGERPRINT: fingerprint,
        },
    }
    return Image(Manifest(canonical(manifest), media.OCI_MANIFEST), config)


def read_modelpack(image: Image) -> tuple[Model, tuple[Layer, ...]]:
    """The inverse of `modelpack`. Raises ModelCorrupt for an artifact that Linkspan did not make."""
    document = image.manifest.document
    what = f"model artifact {image.digest}"
    kind = document.get("artifactType")
    if kind != media.MODEL_MANIFEST:
        raise ModelCorrupt(what, expected=media.MODEL_MANIFEST, found=kind or "no artifactType")
    try:
        diff_ids = parse(image.config, f"config of {what}")["modelfs"]["diffIds"]
        model = Model.model_validate_json(document["annotations"][MODEL])
        layers = tuple(
            Layer(digest=entry["digest"], diff_id=diff_id, size=entry["size"], media_type=entry["mediaType"])
            for entry, diff_id in zip(document["layers"], diff_ids, strict=True)
            if entry["mediaType"] != media.MODEL_FILES
        )
        if not layers:
            raise ValueError("no layer")
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise ModelCorrupt(
            f"{what} was not made by Linkspan", found=type(error).__name__, fix="Delete its tag and run again"
        ) from None
    for layer in layers:
        if layer.media_type != media.MODEL_LAYER or layer.digest != layer.diff_id:
            raise ModelCorrupt(
                f"{what} has a compressed layer", expected=media.MODEL_LAYER, found=layer.media_type
            )
    return model, layers


def files_of(registry: Registry, model: Model) -> tuple[ModelFile, ...]:
    """The files of a model whose artifact is in the registry. Raises the registry's errors."""
    return listed(registry.blob(model.digest, cap=_LISTING_CAP))
