"""The other linker: the model stays an image of its own, and a release says which one it mounts.

So neither half lies on the other, and a change of one never makes a node fetch the other. The release is the
code image under a config of its own, in whose labels is the digest of the model's image: one digest still
names both halves. That image is a plain one, since runtimes mount no artifacts (containerd #11907), over the
very layers that other releases list among their own. Its root is that of the container: what is mounted is
its folder `model.path`.
"""

from collections.abc import Collection, Sequence

from linkspan.ledger.labels import config_of
from linkspan.ledger.values import CodeImage, MountPoint
from linkspan.nouns import Layer, Model
from linkspan.registry import media
from linkspan.registry.media import Document, Image, Manifest, canonical, descriptor
from linkspan.release.layout import strata
from linkspan.release.link import (
    Linked,
    check,
    configured,
    heaviest_first,
    history_entry,
    layer_entry,
    release_config,
)

# OCI image-spec config.md: what a node compares before it takes an image.
_PLATFORM = ("architecture", "os", "os.version", "os.features", "variant")


def mount(
    image: Image,
    code: CodeImage,
    model: Model,
    layers: Sequence[Layer],
    *,
    found: MountPoint,
    paths: Collection[str] = (),
) -> Linked:
    """The image of a release that mounts `layers`, and the model's image that it mounts.

    Arguments and errors as `link`'s: what fits in one way fits in the other, so that the choice is free.
    """
    check(image, code, model, layers, found, paths)
    mounted = model_image(config_of(image), layers)
    config = release_config(image, code, model, mounted.digest)
    done = history_entry(config, f"mount {model.name} {model.version} {code.config.model.path}")
    config["history"] = [*(config.get("history") or []), done | {"empty_layer": True}]
    manifest = image.manifest.document
    sizes = [entry["size"] for entry in manifest["layers"]]
    return Linked(configured(manifest, image.manifest.media_type, config), strata(sizes, {}), mounted)


def model_image(code: Document, layers: Sequence[Layer]) -> Image:
    """A model's layers as an image for the platform of `code`, a config. It says nothing of name or version:
    equal content has one digest."""
    ordered = heaviest_first(layers)
    platform = {key: code[key] for key in _PLATFORM if key in code}
    config = canonical(
        {
            **platform,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in ordered]},
            "history": [{"created_by": "linkspan", "comment": "a model"}] * len(ordered),
        }
    )
    manifest: Document = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": descriptor(media.OCI_CONFIG, config),
        "layers": [layer_entry(layer, media.OCI_MANIFEST) for layer in ordered],
    }
    return Image(Manifest(canonical(manifest), media.OCI_MANIFEST), config)
