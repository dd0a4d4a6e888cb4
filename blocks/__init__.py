"""Prefect blocks: how to reach the outside world.

Each is fields and one factory, both inherited from the settings class of the thing in linkspan/; the form in
the Prefect UI is made from the fields' descriptions.
"""

from prefect.blocks.core import Block

from blocks.azure_model_store import AzureModelStore
from blocks.container_registry import ContainerRegistry
from blocks.docker_runtime import DockerRuntime
from blocks.file_model_store import FileModelStore
from blocks.git_repository import GitRepository
from blocks.image_builder import ImageBuilder
from blocks.kubernetes_runtime import KubernetesRuntime
from blocks.s3_model_store import S3ModelStore
from blocks.webhook_source import WebhookSource

ModelStoreBlock = FileModelStore | AzureModelStore | S3ModelStore
RuntimeBlock = DockerRuntime | KubernetesRuntime

STORES: tuple[type[ModelStoreBlock], ...] = (FileModelStore, AzureModelStore, S3ModelStore)
RUNTIMES: tuple[type[RuntimeBlock], ...] = (DockerRuntime, KubernetesRuntime)
ALL: tuple[type[Block], ...] = (
    GitRepository,
    *STORES,
    ContainerRegistry,
    ImageBuilder,
    *RUNTIMES,
    WebhookSource,
)

__all__ = [
    "ALL",
    "RUNTIMES",
    "STORES",
    "AzureModelStore",
    "ContainerRegistry",
    "DockerRuntime",
    "FileModelStore",
    "GitRepository",
    "ImageBuilder",
    "KubernetesRuntime",
    "ModelStoreBlock",
    "RuntimeBlock",
    "S3ModelStore",
    "WebhookSource",
]
