"""Media types, manifests and images as values: bytes, because a digest is of bytes and not of what they mean.

Media types: OCI image-spec media-types.md, Docker's schema 2, CNCF ModelPack docs/spec.md.
"""

import json
from dataclasses import dataclass
from typing import Any

from linkspan.errors import DigestMismatch, RegistryError, RegistryNotFound
from linkspan.nouns import Digest, Layer, sha256

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
# Docker's name for a layer that is not compressed; Engine 20.10 and containerd (1.6, 2.4) both pull it.
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

# CNCF ModelPack, https://github.com/modelpack/model-spec/blob/main/docs/spec.md
MODEL_MANIFEST = "application/vnd.cncf.model.manifest.v1+json"
MODEL_CONFIG = "application/vnd.cncf.model.config.v1+json"
MODEL_LAYER = "application/vnd.cncf.model.weight.v1.tar"
MODEL_FILES = "application/vnd.cncf.model.doc.v1.raw"

REJECTION = "application/vnd.linkspan.rejection.v1+json"
MOUNTPOINT = "application/vnd.linkspan.mountpoint.v1+json"
PART = "application/vnd.linkspan.part.v1+json"

IMAGES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_INDEX)
MANIFESTS = (*IMAGES, *INDEXES)

# A JSON object whose shape the OCI image-spec leaves open: unknown fields must survive.
Document = dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """A manifest as the registry keeps it."""

    data: bytes
    media_type: str

    @property
    def digest(self) -> Digest:
        return sha256(self.data)

    @property
    def document(self) -> Document:
        """What it says; raises RegistryError if it is not a JSON object."""
        return parse(self.data, f"manifest {self.digest}")

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEXES


@dataclass(frozen=True)
class Image:
    """A manifest together with the config that it names."""

    manifest: Manifest
    config: bytes

    @property
    def digest(self) -> Digest:
        return self.manifest.digest

    def verify(self) -> None:
        """Raises DigestMismatch unless the manifest names exactly this config."""
        named = self.manifest.document.get("config") or {}
        found = descriptor(named.get("mediaType", ""), self.config)
        for field in ("digest", "size"):
            if named.get(field) != found[field]:
                raise DigestMismatch(
                    f"config of manifest {self.digest}",
                    expected=f"{field} {named.get(field)}",
                    found=found[field],
                )


def model_layer(digest: Digest, size: int) -> Layer:
    """A layer that is not compressed, so that one digest is both of the blob and of the tar."""
    return Layer(digest=digest, diff_id=digest, size=size, media_type=MODEL_LAYER)


def parse(data: bytes, what: str) -> Document:
    """Read a JSON object; raises RegistryError that names `what`."""
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise RegistryError(f"{what} is not a JSON object", found=repr(data[:60]))
    return document


def canonical(document: Document) -> bytes:
    """JSON whose bytes follow from the value alone, so that equal values have equal digests."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def descriptor(media_type: str, data: bytes) -> Document:
    """OCI image-spec descriptor.md."""
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}


def media_type_of(data: bytes, content_type: str) -> str:
    """The media type of a manifest.

    The body's own `mediaType` goes first (OCI image-spec manifest.md: it must match the header), because it
    is part of what the digest covers and proxies have been seen to change the header.
    """
    declared = parse(data, "manifest").get("mediaType")
    return declared if isinstance(declared, str) else content_type.partition(";")[0].strip()


def choose(index: Manifest, platform: str) -> Digest:
    """The digest of the image for `platform` (`os/architecture[/variant]`) in an index.

    Raises RegistryNotFound, naming the platforms that are there.
    """
    wanted = platform.split("/")
    platforms = []
    for entry in index.document.get("manifests") or []:
        stated = entry.get("platform") or {}
        parts = [stated.get("os", ""), stated.get("architecture", ""), stated.get("variant", "")]
        if parts[: len(wanted)] == wanted:
            digest: Digest = entry["digest"]
            return digest
        platforms.append("/".join(filter(None, parts)) or "none")
    raise RegistryNotFound(
        f"index {index.digest} has no image for {platform}",
        found=", ".join(platforms) or "an empty index",
        fix="Push an image for this platform or choose another",
    )
