"""What was found in layers and images where the model goes, kept beside them so that none is read twice.

An OCI artifact (image-spec manifest.md, "Guidelines for Artifact Usage") whose config is the MountPoint,
under a tag that follows from what was read and from the folder.
"""

from pydantic import ValidationError

from linkspan.errors import RegistryNotFound
from linkspan.ledger import series
from linkspan.ledger.tags import mountpoint_tag
from linkspan.ledger.values import MountPoint
from linkspan.nouns import Digest
from linkspan.registry import media
from linkspan.registry.client import Registry
from linkspan.registry.media import canonical, descriptor

_EMPTY = b"{}"


def known(registry: Registry, digest: Digest, folder: str) -> MountPoint | None:
    """What a layer or an image holds at `folder`, if it was ever read."""
    try:
        found = registry.image(mountpoint_tag(digest, folder))
        return MountPoint.model_validate_json(found.config)
    except (RegistryNotFound, ValidationError):  # an earlier version's, or somebody else's: read it again
        return None


def remember(registry: Registry, digest: Digest, folder: str, found: MountPoint) -> None:
    """Keep what a layer or an image holds at `folder`. Errors are the registry's."""
    registry.push_blob(_EMPTY)
    config = canonical(found.model_dump(mode="json"))
    registry.push_blob(config)
    empty = descriptor(media.OCI_EMPTY, _EMPTY)
    manifest = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "artifactType": media.MOUNTPOINT,
        "config": descriptor(media.MOUNTPOINT, config),
        # One layer even so: several registries refuse a manifest without any.
        "layers": [empty],
        # Two layers that hold the same are two manifests, so that deleting one forgets one.
        "annotations": {"dev.linkspan.of": digest, "dev.linkspan.folder": folder},
    }
    data = canonical(manifest)
    series.once(registry, registry.push_manifest(data, media.OCI_MANIFEST), mountpoint_tag(digest, folder))
