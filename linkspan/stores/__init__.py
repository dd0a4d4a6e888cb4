"""Places where models are published. A new kind is one file here, one conformance parameter and one block."""

from linkspan.stores.azure import AzureStoreSettings
from linkspan.stores.file import FileStoreSettings
from linkspan.stores.s3 import S3StoreSettings
from linkspan.stores.settings import StoreSettings

STORES: dict[str, type[StoreSettings]] = {
    "file-model-store": FileStoreSettings,
    "azure-model-store": AzureStoreSettings,
    "s3-model-store": S3StoreSettings,
}
"""Settings by the slug of the Prefect block that inherits from them."""

__all__ = ["STORES", "AzureStoreSettings", "FileStoreSettings", "S3StoreSettings", "StoreSettings"]
