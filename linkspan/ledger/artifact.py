"""Notes in the registry: OCI artifacts, with an empty config and layer unless they have one of their own.

image-spec manifest.md, "Guidelines for Artifact Usage".
"""

from collections.abc import Mapping

from linkspan.nouns import Digest
from linkspan.registry import media
from linkspan.registry.client import Registry
from linkspan.registry.media import Document, canonical, descriptor

_EMPTY = b"{}"


def push_artifact(
    registry: Registry,
    kind: str,
    *,
    annotations: Mapping[str, str] | None = None,
    config: bytes = b"",
    layer: Document | None = None,
) -> Digest:
    """Store an artifact of a media type of ours under its digest. `layer` describes a blob that is there.

    Errors are the registry's.
    """
    registry.push_blob(_EMPTY)
    empty = descriptor(media.OCI_EMPTY, _EMPTY)
    if config:
        registry.push_blob(config)
    manifest: Document = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "artifactType": kind,
        "config": descriptor(kind, config) if config else empty,
        # One layer even so: several registries refuse a manifest without any.
        "layers": [layer or empty],
    }
    if annotations:
        manifest["annotations"] = dict(annotations)
    return registry.push_manifest(canonical(manifest), media.OCI_MANIFEST)
