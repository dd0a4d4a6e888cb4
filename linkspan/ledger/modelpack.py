"""A validated model as an artifact of its own: a CNCF ModelPack manifest over the layer that releases share.

https://github.com/modelpack/model-spec docs/spec.md and docs/config.md. The blob is the very one that a
release lists as a layer; only its media type differs there. The whole Model stands in an annotation, because
the specification's config admits no fields of ours.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

from pydantic import ValidationError

from linkspan.errors import ModelCorrupt
from linkspan.nouns import Layer, Model
from linkspan.registry import media
from linkspan.registry.media import Document, Image, Manifest, canonical, descriptor, parse

MODEL = "dev.linkspan.model"
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
    model: Model, layer: Layer, fingerprint: str = "", annotations: Mapping[str, str] | None = None
) -> Image:
    """The ModelPack manifest and config of a model whose files are `layer`. Equal input gives equal bytes."""
    described: Document = {"name": model.name, "version": model.version}
    if model.published_at:
        described["createdAt"] = model.published_at.isoformat()
    if model.published_by:
        described["authors"] = [model.published_by]
    formats = {_FORMATS.get(PurePosixPath(file.path).suffix.lower(), "") for file in model.files} - {""}
    config = canonical(
        {
            "descriptor": described,
            "config": {"format": formats.pop()} if len(formats) == 1 else {},
            "modelfs": {"type": "layers", "diffIds": [layer.diff_id]},
        }
    )
    manifest: Document = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "artifactType": media.MODEL_MANIFEST,
        "config": descriptor(media.MODEL_CONFIG, config),
        "layers": [{"mediaType": media.MODEL_LAYER, "digest": layer.digest, "size": layer.size}],
        "annotations": {
            "org.opencontainers.image.title": f"{model.name} {model.version}",
            "org.opencontainers.image.version": model.version,
            **(annotations or {}),
            MODEL: model.model_dump_json(),
            FINGERPRINT: fingerprint,
        },
    }
    return Image(Manifest(canonical(manifest), media.OCI_MANIFEST), config)


def read_modelpack(image: Image) -> tuple[Model, Layer]:
    """The inverse of `modelpack`. Raises ModelCorrupt for an artifact that Linkspan did not make."""
    document = image.manifest.document
    what = f"model artifact {image.digest}"
    kind = document.get("artifactType")
    if kind != media.MODEL_MANIFEST:
        raise ModelCorrupt(what, expected=media.MODEL_MANIFEST, found=kind or "no artifactType")
    try:
        [entry] = document["layers"]
        [diff_id] = parse(image.config, f"config of {what}")["modelfs"]["diffIds"]
        model = Model.model_validate_json(document["annotations"][MODEL])
        layer = Layer(
            digest=entry["digest"], diff_id=diff_id, size=entry["size"], media_type=entry["mediaType"]
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise ModelCorrupt(
            f"{what} was not made by Linkspan", found=type(error).__name__, fix="Delete its tag and run again"
        ) from None
    if layer.media_type != media.MODEL_LAYER or layer.digest != layer.diff_id:
        raise ModelCorrupt(
            f"{what} has a compressed layer", expected=media.MODEL_LAYER, found=layer.media_type
        )
    return model, layer
