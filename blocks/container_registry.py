"""Where images and releases are."""

from prefect.blocks.core import Block

from linkspan.registry.settings import RegistrySettings


class ContainerRegistry(RegistrySettings, Block):
    """A place in a container registry: one repository per app."""

    _block_type_name = "Container registry"
    _block_type_slug = "container-registry"
