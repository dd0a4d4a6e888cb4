"""Where models are published: a folder."""

from prefect.blocks.core import Block

from linkspan.stores.file import FileStoreSettings


class FileModelStore(FileStoreSettings, Block):
    """A folder on the worker's machine, or a mounted share, where models are published."""

    _block_type_name = "File model store"
    _block_type_slug = "file-model-store"
