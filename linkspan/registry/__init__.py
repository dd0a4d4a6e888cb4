"""The container registry: OCI distribution over httpx."""

from linkspan.registry.client import Registry
from linkspan.registry.media import Image, Manifest
from linkspan.registry.ref import ImageRef
from linkspan.registry.settings import RegistrySettings

__all__ = ["Image", "ImageRef", "Manifest", "Registry", "RegistrySettings"]
