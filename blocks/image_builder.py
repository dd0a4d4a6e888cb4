"""How code images are built."""

from prefect.blocks.core import Block

from linkspan.code.builder import BuilderSettings


class ImageBuilder(BuilderSettings, Block):
    """The Docker Engine that builds code images and smoke-tests releases."""

    _block_type_name = "Image builder"
    _block_type_slug = "image-builder"
