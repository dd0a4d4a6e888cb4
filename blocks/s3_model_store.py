"""Where models are published: S3."""

from prefect.blocks.core import Block

from linkspan.stores.s3 import S3StoreSettings


class S3ModelStore(S3StoreSettings, Block):
    """A bucket in S3, or in a store that speaks its API, where models are published."""

    _block_type_name = "S3 model store"
    _block_type_slug = "s3-model-store"
