"""Places where models are published. A new kind is one file here, one conformance parameter and one block."""

from linkspan.stores.azure import AzureStoreSettings
from linkspan.stores.file import FileStoreSettings
from linkspan.stores.s3 import S3StoreSettings
from linkspan.stores.settings import StoreSettings

__all__ = ["AzureStoreSettings", "FileStoreSettings", "S3StoreSettings", "StoreSettings"]
