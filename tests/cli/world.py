"""One app with everything that `linkspan` is used on: server, worker, repository, store, registry, engine."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker
import httpx
import yaml

from linkspan.errors import ServerUnavailable
from linkspan.local.services import Local
from linkspan.runtimes.base import Service
from linkspan.runtimes.docker.runtime import DockerRuntimeSettings
from linkspan.tls import trusted
from tests.cli.shell import linkspan
from tests.e2e import tiny_app
from tests.onnx_models import linear_model
from tests.repos import Repository
from tests.services.engine import images_of
from tests.services.registry import USER, CountingProxy, RunningRegistry

ROOT = Path(__file__).parents[2]
MODEL = "digits"


def prefect_file(folder: Path, app: str) -> Path:
    """The repository's prefect.yaml for another app, without the clock: a test says itself when."""
    document = yaml.safe_load((ROOT / "prefect.yaml").read_text().replace("digits", app))
    for deployment in document["deployments"]:
        deployment["schedules"] = []
        deployment["triggers"] = []
    path = folder / "prefect.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


class World:
    """Use `local` as a context manager around it; `destroy` removes what the runtime made."""

    def __init__(
        self,
        folder: Path,
        local: Local,
        app: str,
        base: str,
        registry: RunningRegistry,
        proxy: CountingProxy,
        client: docker.DockerClient,
    ) -> None:
        self.folder, self.local, self.app, self.base = folder, local, app, base
        self.registry, self.proxy, self.docker = registry, proxy, client
        self.repository = Repository(folder / "git")
        self.models = folder / "models"
        self.models.mkdir()
        self.service = Service(app=app, environment="production")
        self._made = 0

    # What people do

    def save_blocks(self, **changes: Mapping[str, Any]) -> None:
        """Save the blocks as they should be, some with other fields (`container_registry={…}`)."""
        fields: dict[str, dict[str, Any]] = {
            "git-repository": {"url": str(self.repository.bare)},
            "file-model-store": {"path": str(self.models)},
            "container-registry": {
                "host": self.proxy.host,
                "username": USER,
                "password": self.registry.password,
            },
            "image-builder": {"memory": "512m"},
            "docker-runtime": {},
        }
        for kind, data in fields.items():
            name = str(self.service) if kind == "docker-runtime" else self.app
            change = changes.get(kind.replace("-", "_"), {})
            self.local.server.save_block(f"{kind}/{name}", {**data, **change})

    def commit(self, word: str, **files: str) -> str:
        """Commit and push the app; `test_py=…` replaces test.py."""
        named = {name.replace("_", "."): text for name, text in files.items()}
        content = {**tiny_app.files(self.app, self.base, word), **named}
        return self.repository.commit(content, subject=f"Say {word}")

    def train(self, *, seed: int) -> Path:
        """A folder with a model and its labels."""
        self._made += 1
        folder = self.folder / f"trained-{self._made}"
        linear_model(64, 10, folder / "model.onnx", seed=seed)
        (folder / "labels.txt").write_text(tiny_app.LABELS)
        return folder

    # What is so

    def answer(self) -> dict[str, str]:
        """What the service says about itself."""
        url = DockerRuntimeSettings().open().url(self.service)
        document: dict[str, str] = (
            httpx.get(f"{url}/version", timeout=120, verify=trusted()).raise_for_status().json()
        )
        return document

    def answers(self) -> dict[str, str]:
        """The same; nothing while it does not answer."""
        try:
            return self.answer()
        except httpx.HTTPError:
            return {}

    def versions(self) -> list[str]:
        """The versions in the store."""
        return sorted(path.stem for path in (self.models / MODEL / "versions").glob("*.json"))

    def idle(self) -> bool:
        """Whether no run is under way or waits."""
        busy = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING")
        try:
            return not self.local.server.recent_runs(limit=5, state_types=busy)
        except ServerUnavailable:
            return False  # it is busy, then

    def images(self) -> int:
        """How many images of the app the engine has."""
        return len(images_of(self.docker, self.app))

    def status(self) -> Any:
        """`linkspan status --json`."""
        shown = linkspan("status", "--json")
        for _ in range(3):
            if shown.code == 9:  # SQLite, on a machine that does something else too
                shown = linkspan("status", "--json")
        assert shown.code == 0, shown
        return shown.json

    def destroy(self) -> None:
        DockerRuntimeSettings().open().destroy(self.service)
        for image in images_of(self.docker, self.app):
            self.docker.images.remove(image, force=True)
        shutil.rmtree(self.folder, ignore_errors=True)
