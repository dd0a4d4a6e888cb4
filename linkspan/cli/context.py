"""What a command needs to know first: which server, which app and environment, what they are linked to."""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from linkspan.cli.links import Links, open_block
from linkspan.config import CONFIG_FILE, AppConfig, load_config
from linkspan.errors import ConfigError
from linkspan.local.known import known_server
from linkspan.runtimes.base import RuntimeSettings, Service

if TYPE_CHECKING:
    from linkspan.code.builder import BuilderSettings
    from linkspan.code.source import GitSettings, GitSource
    from linkspan.models import ModelStore
    from linkspan.prefect_api.values import RunRef
    from linkspan.registry.client import Registry
    from linkspan.registry.settings import RegistrySettings
    from linkspan.runtimes.base import Runtime
    from linkspan.stores.settings import StoreSettings

RELEASE_FLOW = "build-and-deploy"
APP_FLOW = "app-stream"
MODEL_FLOW = "model-stream"


class Context:
    """An app in an environment, as the deployments in Prefect describe it; opened lazily.

    Raises ConfigError if no Prefect server is known, or if it is not clear which app is meant.
    """

    def __init__(self, app: str = "", environment: str = "production") -> None:
        self.server = known_server()
        self.app = app or os.environ.get("LINKSPAN_APP") or _app_here() or self._only_app()
        try:
            self._service = Service(app=self.app, environment=environment)
        except ValidationError as error:
            field = str(error.errors()[0]["loc"][0])
            raise ConfigError(
                f"{ {'app': self.app}.get(field, environment)!r} cannot be the name of an {field}",
                expected="lower-case letters, digits and '-', at most 40, not '-' at an end",
            ) from None

    @cached_property
    def service(self) -> Service:
        """The service; in a cluster with the namespace that the newest linkspan.toml that is good names.

        A slip in the newest one must not keep anybody from looking, nor from rolling back.
        """
        from linkspan.release.newest import usable_config

        if not self.links.runtime.startswith("kubernetes-runtime/"):
            return self._service
        config = usable_config(self.source, say=lambda _: None)
        named = config.environments.get(self._service.environment) if config else None
        return self._service.model_copy(update={"namespace": named.namespace if named else ""})

    @property
    def release_deployment(self) -> str:
        return f"{RELEASE_FLOW}/{self._service}"

    @property
    def app_deployment(self) -> str:
        return f"{APP_FLOW}/{self.app}"

    @property
    def model_deployment(self) -> str:
        return f"{MODEL_FLOW}/{self.app}"

    @cached_property
    def links(self) -> Links:
        """The blocks that the environment's deployment names. Raises ConfigError if it was never deployed."""
        names = {each.name for each in self.server.deployments()}
        if self.release_deployment not in names:
            prefix = f"{RELEASE_FLOW}/"
            known = sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))
            raise ConfigError(
                f"Prefect has no deployment {self.release_deployment}",
                expected=" or ".join(known) or "one made by `prefect deploy --all`",
                fix="Name another app or environment, or add this one to prefect.yaml and run `linkspan up` "
                "or `python -m flows.setup`",
            )
        return Links.of_deployment(self.server, self.release_deployment)

    @cached_property
    def registry_settings(self) -> "RegistrySettings":
        from linkspan.registry.settings import RegistrySettings

        return open_block(self.server, self.links.registry, RegistrySettings)

    @cached_property
    def registry(self) -> "Registry":
        return self.registry_settings.open(self.app)

    @cached_property
    def builder_settings(self) -> "BuilderSettings":
        from linkspan.code.builder import BuilderSettings

        named = self.server.deployment(self.app_deployment).parameters
        return open_block(self.server, named.get("builder", "image-builder/digits"), BuilderSettings)

    @cached_property
    def git_settings(self) -> "GitSettings":
        from linkspan.code.source import GitSettings

        return open_block(self.server, self.links.repository, GitSettings)

    @cached_property
    def source(self) -> "GitSource":
        return self.git_settings.open()

    @cached_property
    def newest_config(self) -> AppConfig | None:
        """linkspan.toml of the newest commit; None while there is no commit."""
        from linkspan.release.newest import newest_config

        return newest_config(self.source)

    @cached_property
    def store_settings(self) -> "StoreSettings":
        from linkspan.stores.settings import StoreSettings

        return open_block(self.server, self.links.store, StoreSettings)

    def models(self, name: str) -> "ModelStore":
        from linkspan.models import open_models

        return open_models(self.store_settings, name)

    @cached_property
    def runtime(self) -> "Runtime":
        settings = open_block(self.server, self.links.runtime, RuntimeSettings)
        return settings.open(self.registry_settings.docker_auth())

    def start(
        self, deployment: str, parameters: Mapping[str, Any], *, once: str, patience: float | None = None
    ) -> "RunRef":
        """Start a run, once per key (PrefectServer.start), and wake the worker if it is on this machine."""
        from linkspan.local.wake import wake

        run = self.server.start(deployment, parameters, idempotency_key=once, patience=patience)
        wake()
        return run

    def _only_app(self) -> str:
        streams = [each.name.partition("/") for each in self.server.deployments()]
        apps = sorted({app for flow, _, app in streams if flow in {APP_FLOW, MODEL_FLOW}})
        if len(apps) == 1:
            return apps[0]
        if not apps:
            raise ConfigError(
                f"no app is deployed to the Prefect server at {self.server.ui_url}",
                fix="Put it into prefect.yaml and run `linkspan up` or `python -m flows.setup`",
            )
        raise ConfigError(
            "it is not clear which app is meant",
            expected="--app with one of " + ", ".join(apps),
            fix="Name it, or set LINKSPAN_APP, or change to the folder of its linkspan.toml",
        )


def environments() -> list[Context]:
    """Every app in every environment for which the Prefect server has a deployment."""
    found = []
    for each in known_server().deployments():
        flow, _, service = each.name.partition("/")
        app, _, environment = service.rpartition("-")
        named = each.parameters.get("app", app), each.parameters.get("environment", environment)
        if flow == RELEASE_FLOW and "-".join(named) == service:
            found.append(Context(*named))
    return found


def _app_here() -> str:
    return load_config(Path()).name if Path(CONFIG_FILE).is_file() else ""
