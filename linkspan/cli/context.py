"""What a command needs to know first: which server, which app and environment, what they are linked to."""

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

from linkspan import links
from linkspan.build import BuilderSettings
from linkspan.config import read_config
from linkspan.engine import Engine
from linkspan.errors import ConfigError
from linkspan.links import Links
from linkspan.models import ModelStore
from linkspan.registry.client import Registry
from linkspan.registry.settings import RegistrySettings
from linkspan.runtimes.base import Runtime, Service
from linkspan.source import GitSource
from linkspan.stores.settings import StoreSettings

RELEASE_FLOW = "build-and-deploy"
APP_FLOW = "app-stream"
MODEL_FLOW = "model-stream"

AppOption = Annotated[
    str, typer.Option("--app", "-a", help="The app. Default: linkspan.toml here, or the only one there is.")
]
EnvironmentOption = Annotated[str, typer.Option("--environment", "-e", help="The environment.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Context:
    """An app in an environment, as the deployments in Prefect describe it; opened lazily."""

    def __init__(self, app: str = "", environment: str = "production") -> None:
        self.engine = Engine.from_environment()
        self.app = app or os.environ.get("LINKSPAN_APP") or _app_here() or self._only_app()
        self.service = Service(app=self.app, environment=environment)

    @property
    def release_deployment(self) -> str:
        return f"{RELEASE_FLOW}/{self.service}"

    @property
    def app_deployment(self) -> str:
        return f"{APP_FLOW}/{self.app}"

    @property
    def model_deployment(self) -> str:
        return f"{MODEL_FLOW}/{self.app}"

    @cached_property
    def links(self) -> Links:
        """The blocks that the environment's deployment names. Raises ConfigError if it was never deployed."""
        names = {each.name for each in self.engine.deployments()}
        if self.release_deployment not in names:
            known = sorted(
                n.removeprefix(f"{RELEASE_FLOW}/") for n in names if n.startswith(f"{RELEASE_FLOW}/")
            )
            raise ConfigError(
                f"Prefect has no deployment {self.release_deployment}",
                expected=" or ".join(known) or "one made by `prefect deploy --all`",
                fix="Add it to prefect.yaml and run `prefect deploy --all`",
            )
        return Links.of_deployment(self.engine, self.release_deployment)

    @cached_property
    def registry_settings(self) -> RegistrySettings:
        return links.open_registry(self.engine, self.links.registry)

    @cached_property
    def registry(self) -> Registry:
        return self.registry_settings.open(self.app)

    @cached_property
    def builder_settings(self) -> BuilderSettings:
        return links.open_builder(self.engine, self.links.builder)

    @cached_property
    def source(self) -> GitSource:
        return links.open_repository(self.engine, self.links.repository).open()

    @cached_property
    def store_settings(self) -> StoreSettings:
        return links.open_store(self.engine, self.links.store)

    def models(self, name: str) -> ModelStore:
        return self.store_settings.models(name)

    @cached_property
    def runtime(self) -> Runtime:
        auth = self.registry_settings.docker_auth()
        return links.open_runtime(self.engine, self.links.runtime).open(auth)

    def _only_app(self) -> str:
        names = [each.name for each in self.engine.deployments()]
        apps = sorted(name.removeprefix(APP_FLOW + "/") for name in names if name.startswith(APP_FLOW + "/"))
        if len(apps) == 1:
            return apps[0]
        raise ConfigError(
            "it is not clear which app is meant",
            expected="--app with one of " + ", ".join(apps)
            if apps
            else "at least one app deployed to Prefect",
        )


def _app_here() -> str:
    path = Path("linkspan.toml")
    return read_config(path.read_text(), where=str(path)).name if path.is_file() else ""
