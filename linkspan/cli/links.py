"""From the name of a saved block to the thing itself, without Prefect.

A flow loads its blocks with Prefect; the command line must start quickly and asks the server's API for the
same fields. Both end in the same settings class, so both open the same thing.
"""

from importlib import import_module
from typing import TypeVar

from pydantic import BaseModel

from linkspan.errors import ConfigError
from linkspan.nouns import Noun
from linkspan.prefect_api.server import Server
from linkspan.prefect_api.values import settings_from

S = TypeVar("S", bound=BaseModel)

SETTINGS = {
    "git-repository": "linkspan.code.source:GitSettings",
    "file-model-store": "linkspan.stores.file:FileStoreSettings",
    "azure-model-store": "linkspan.stores.azure:AzureStoreSettings",
    "s3-model-store": "linkspan.stores.s3:S3StoreSettings",
    "container-registry": "linkspan.registry.settings:RegistrySettings",
    "image-builder": "linkspan.code.builder:BuilderSettings",
    "docker-runtime": "linkspan.runtimes.docker.runtime:DockerRuntimeSettings",
    "kubernetes-runtime": "linkspan.runtimes.kubernetes.runtime:KubernetesRuntimeSettings",
    # Not `webhook`: Prefect has a protected block type of that name, for calls that go out.
    "webhook-source": "linkspan.webhooks.base:WebhookSettings",
}
"""The register of all that can be linked to: block type slug → settings class.

What is a store or a runtime its class says. tests/flows/test_blocks.py holds it against blocks/.
"""


class Links(Noun):
    """The blocks that an app's releases use, each as `block-type/name`."""

    repository: str = "git-repository/digits"
    store: str = "file-model-store/digits"
    registry: str = "container-registry/digits"
    runtime: str = "docker-runtime/digits-production"

    @classmethod
    def of_deployment(cls, server: Server, deployment: str) -> "Links":
        """Those that a deployment of build-and-deploy names in its parameters. Raises ServerError."""
        parameters = server.deployment(deployment).parameters
        return cls(**{name: parameters[name] for name in cls.model_fields if name in parameters})


def settings_class(kind: str) -> type[BaseModel]:
    """The settings class of a block type slug in SETTINGS, imported only now."""
    module, _, name = SETTINGS[kind].partition(":")
    found: type[BaseModel] = getattr(import_module(module), name)
    return found


def open_block(server: Server, ref: str, wanted: type[S]) -> S:
    """The settings in a saved block, `block-type/name`, of the wanted class or one that inherits from it.

    Raises ServerError if nothing was saved, ConfigError for another kind of block or an incomplete one.
    """
    kind = ref.partition("/")[0]
    found = settings_class(kind) if kind in SETTINGS else None
    if found is None or not issubclass(found, wanted):
        fit = sorted(each for each in SETTINGS if issubclass(settings_class(each), wanted))
        raise ConfigError(f"{ref!r} cannot stand here", expected=f"{' or '.join(fit)}, then /name")
    return settings_from(found, ref, server.block(ref))
