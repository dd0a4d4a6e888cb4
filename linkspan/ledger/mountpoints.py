"""What was found in layers and images where the model goes, kept beside them so that none is read twice.

An artifact whose config is the MountPoint, under a tag that follows from what was read and from the folder.
Who cannot find it, or cannot put it, reads again.
"""

from pydantic import ValidationError

from linkspan.errors import RegistryDenied, RegistryError, RegistryUnavailable
from linkspan.ledger import series
from linkspan.ledger.artifact import push_artifact
from linkspan.ledger.tags import mountpoint_tag
from linkspan.ledger.values import MountPoint
from linkspan.nouns import Digest
from linkspan.registry import media
from linkspan.registry.client import Registry
from linkspan.registry.media import canonical


def known(registry: Registry, digest: Digest, folder: str) -> MountPoint | None:
    """What a layer or an image holds at `folder`, if it was ever read."""
    try:
        found = registry.image(mountpoint_tag(digest, folder))
        return MountPoint.model_validate_json(found.config)
    except (RegistryUnavailable, RegistryDenied):
        raise
    except (RegistryError, ValidationError):  # not there, or somebody else's
        return None


def remember(registry: Registry, digest: Digest, folder: str, found: MountPoint) -> None:
    """Keep what a layer or an image holds at `folder`, if the registry takes it."""
    config = canonical(found.model_dump(mode="json"))
    # Two layers that hold the same are two manifests, so that deleting one forgets one.
    of = {"dev.linkspan.of": digest, "dev.linkspan.folder": folder}
    try:
        note = push_artifact(registry, media.MOUNTPOINT, annotations=of, config=config)
        series.once(registry, note, mountpoint_tag(digest, folder))
    except RegistryUnavailable:
        raise
    except RegistryError:
        return  # a registry that is full, or that we may only read: it is a note, and no more
