"""The layers of a model one by one, so that two models with the same file have the same layer of it.

An artifact with that layer alone, under a tag that follows from the files and their folder.
"""

from linkspan.errors import RegistryDenied, RegistryError, RegistryUnavailable
from linkspan.ledger import series
from linkspan.ledger.artifact import push_artifact
from linkspan.nouns import Layer
from linkspan.registry import media
from linkspan.registry.client import Registry


def known_part(registry: Registry, tag: str, size: int) -> Layer | None:
    """The layer of `size` bytes under a `part_tag`, if it was ever pushed and is there."""
    try:
        [entry] = registry.manifest(tag).document["layers"]
        layer = Layer(
            digest=entry["digest"],
            diff_id=entry["digest"],
            size=entry["size"],
            media_type=entry["mediaType"],
        )
    except (RegistryUnavailable, RegistryDenied):
        raise
    except (RegistryError, KeyError, TypeError, ValueError):
        return None  # not there, or somebody else's: it is pushed again, under its own digest
    # A tag is not a proof: a clean-up may have taken the blob, or somebody put another there.
    return layer if layer.size == size == registry.blob_size(layer.digest) else None


def remember_part(registry: Registry, tag: str, layer: Layer) -> None:
    """Keep a layer that is there under its `part_tag`. Errors are the registry's."""
    entry = {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
    series.once(registry, push_artifact(registry, media.PART, layer=entry), tag)
