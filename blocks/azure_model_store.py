"""Where models are published: Azure Blob Storage."""

from prefect.blocks.core import Block

from linkspan.stores.azure import AzureStoreSettings


class AzureModelStore(AzureStoreSettings, Block):
    """A container in Azure Blob Storage where models are published."""

    _block_type_name = "Azure model store"
    _block_type_slug = "azure-model-store"
