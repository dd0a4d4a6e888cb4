"""Prefect blocks: how to reach the outside world.

Each is fields and one factory, both inherited from the settings class of the thing in linkspan/; the form in
the Prefect UI is made from the fields' descriptions. `linkspan/cli/links.py` names the same ones by their
slugs, for what must not wait for `import prefect`.
"""

from prefect.blocks.core import Block

from linkspan.code.builder import BuilderSettings
from linkspan.code.source import GitSettings
from linkspan.registry.settings import RegistrySettings
from linkspan.runtimes.docker.runtime import DockerRuntimeSettings
from linkspan.runtimes.kubernetes.runtime import KubernetesRuntimeSettings
from linkspan.stores.azure import AzureStoreSettings
from linkspan.stores.file import FileStoreSettings
from linkspan.stores.s3 import S3StoreSettings
from linkspan.webhooks.base import WebhookSettings


class GitRepository(GitSettings, Block):
    """Where the code of an app is, how to get in, and which branch counts."""

    _block_type_name = "Git repository"
    _block_type_slug = "git-repository"


class FileModelStore(FileStoreSettings, Block):
    """A folder on the worker's machine, or a mounted share, where models are published."""

    _block_type_name = "File model store"
    _block_type_slug = "file-model-store"


class AzureModelStore(AzureStoreSettings, Block):
    """A container in Azure Blob Storage where models are published."""

    _block_type_name = "Azure model store"
    _block_type_slug = "azure-model-store"


class S3ModelStore(S3StoreSettings, Block):
    """A bucket in S3, or in a store that speaks its API, where models are published."""

    _block_type_name = "S3 model store"
    _block_type_slug = "s3-model-store"


class ContainerRegistry(RegistrySettings, Block):
    """A place in a container registry: one repository per app."""

    _block_type_name = "Container registry"
    _block_type_slug = "container-registry"


class ImageBuilder(BuilderSettings, Block):
    """The Docker Engine that builds code images and smoke-tests releases."""

    _block_type_name = "Image builder"
    _block_type_slug = "image-builder"


class DockerRuntime(DockerRuntimeSettings, Block):
    """Runs releases on one Docker Engine behind nginx, without a failed request."""

    _block_type_name = "Docker runtime"
    _block_type_slug = "docker-runtime"


class KubernetesRuntime(KubernetesRuntimeSettings, Block):
    """Runs releases on a Kubernetes cluster: AKS, EKS or any other."""

    _block_type_name = "Kubernetes runtime"
    _block_type_slug = "kubernetes-runtime"


class WebhookSource(WebhookSettings, Block):
    """A git server or a store that calls the receiver at `/hooks/NAME`, with the name of this block."""

    _block_type_name = "Webhook source"
    _block_type_slug = "webhook-source"


ALL: tuple[type[Block], ...] = tuple(
    kind
    for kind in list(vars().values())
    if isinstance(kind, type) and issubclass(kind, Block) and kind is not Block
)
"""Every block above, in that order."""
