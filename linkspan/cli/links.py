"""From the name of a saved block to the thing itself, without Prefect.

A flow loads its blocks with Prefect; the command line must start quickly and asks the server's API for the
same fields. Both end in the same settings class, so both open the same thing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ValidationError

from linkspan.errors import ConfigError
from linkspan.nouns import Noun
from linkspan.prefect_api.server import Server

if TYPE_CHECKING:
    from linkspan.code.builder import BuilderSettings
    from linkspan.code.source import GitSettings
    from linkspan.registry.settings import RegistrySettings
    from linkspan.runtimes.base import RuntimeSettings
    from linkspan.stores.settings import StoreSettings

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
"""Block type slug → settings class. tests/flows/test_blocks.py holds it against blocks/."""

STORES = frozenset({"file-model-store", "azure-model-store", "s3-model-store"})
RUNTIMES = frozenset({"docker-runtime", "kubernetes-runtime"})


class Links(Noun):
    """The blocks that an app's deployments use, each as `block-type/name`."""

    repository: str = "git-repository/digits"
    store: str = "file-model-store/digits"
    registry: str = "container-registry/digits"
    builder: str = "image-builder/digits"
    runtime: str = "docker-runtime/digits-production"

    @classmethod
    def of_deployment(cls, server: Server, deployment: str) -> "Links":
        """Those that a deployment of build-and-deploy names in its parameters. Raises ServerError."""
        parameters = server.deployment(deployment).parameters
        return cls(**{name: parameters[name] for name in cls.model_fields if name in parameters})


def open_repository(server: Server, ref: str) -> "GitSettings":
    """Settings of a git repository. Like all of these: ServerError if nothing was saved, or ConfigError."""
    return cast("GitSettings", _open(server, ref, {"git-repository"}))


def open_store(server: Server, ref: str) -> "StoreSettings":
    """Settings of a model store."""
    return cast("StoreSettings", _open(server, ref, STORES))


def open_registry(server: Server, ref: str) -> "RegistrySettings":
    """Settings of a container registry."""
    return cast("RegistrySettings", _open(server, ref, {"container-registry"}))


def open_builder(server: Server, ref: str) -> "BuilderSettings":
    """Settings of an image builder."""
    return cast("BuilderSettings", _open(server, ref, {"image-builder"}))


def open_runtime(server: Server, ref: str) -> "RuntimeSettings":
    """Settings of a runtime."""
    return cast("RuntimeSettings", _open(server, ref, RUNTIMES))


def settings_of(ref: str, data: dict[str, Any]) -> BaseModel:
    """The settings that a saved block's fields make. Raises ConfigError, without any value in it."""
    kind = ref.partition("/")[0]
    if kind not in SETTINGS:
        raise ConfigError(f"{ref!r} is no block of ours", expected=", ".join(sorted(SETTINGS)))
    module, _, name = SETTINGS[kind].partition(":")
    settings: type[BaseModel] = getattr(import_module(module), name)
    try:
        return settings.model_validate(data)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)
        )
        raise ConfigError(f"block {ref} is not complete: {wrong}", fix="Edit it in the Prefect UI") from None


def _open(server: Server, ref: str, kinds: frozenset[str] | set[str]) -> BaseModel:
    if ref.partition("/")[0] not in kinds:
        raise ConfigError(f"{ref!r} cannot stand here", expected=f"{' or '.join(sorted(kinds))}, then /name")
    return settings_of(ref, server.block(ref))
