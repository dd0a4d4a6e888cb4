"""The layers of a model one by one, so that two models with the same file have the same layer of it.

An image manifest with that layer alone, under a tag that follows from the files and their folder.
"""

from linkspan.errors import RegistryNotFound
from linkspan.ledger import series
from linkspan.nouns import Layer
from linkspan.registry import media
from linkspan.registry.client import Registry
from linkspan.registry.media import canonical, descriptor

_EMPTY = b"{}"


def known(registry: Registry, tag: str) -> Layer | None:
    """The layer under a `part_tag`, if it was ever pushed."""
    try:
        [entry] = registry.manifest(tag).document["layers"]
        return Layer(
            digest=entry["digest"],
            diff_id=entry["digest"],
            size=entry["size"],
            media_type=entry["mediaType"],
        )
    except (RegistryNotFound, KeyError, TypeError, ValueError):
        return None  # somebody else's under our tag: it is pushed again, under its own digest


def remember(registry: Registry, tag: str, layer: Layer) -> None:
    """Keep a layer that is there under its `part_tag`. Errors are the registry's."""
    registry.push_blob(_EMPTY)
    manifest = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "artifactType": media.PART,
        "config": descriptor(media.OCI_EMPTY, _EMPTY),
        "layers": [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}],
    }
    series.once(registry, registry.push_manifest(canonical(manifest), media.OCI_MANIFEST), tag)
