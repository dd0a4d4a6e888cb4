"""One app in a world of its own: repository, store, blocks, service; the real flows are called on it."""

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import httpx
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, TaskRun

from blocks import (
    ContainerRegistry,
    DockerRuntime,
    FileModelStore,
    GitRepository,
    ImageBuilder,
    KubernetesRuntime,
)
from flows.app_stream import app_stream
from flows.build_and_deploy import build_and_deploy
from flows.model_stream import model_stream
from linkspan.code.image import build, push
from linkspan.models import open_models, publish
from linkspan.models.package import package
from linkspan.nouns import Model, Revision
from linkspan.registry.client import Registry
from linkspan.release.newest import newest_code
from linkspan.release.steps import again, confirm, plan, push_candidate, roll_out
from linkspan.runtimes.base import Runtime, Service
from tests.e2e import tiny_app
from tests.e2e.front import FaultyProxy
from tests.onnx_models import linear_model
from tests.repos import Repository
from tests.services.prefect_server import PrefectServer
from tests.services.registry import RunningRegistry

MODEL = "digits"
ENVIRONMENT = "production"


@dataclass
class Ended:
    """How a flow run ended. `error` is what it raised."""

    id: Any
    name: str
    type: str
    message: str
    error: BaseException | None

    @property
    def says(self) -> str:
        return str(self.error or self.message)


@dataclass
class World:
    """Everything one app needs. Calls of flows run in this very process against the real server."""

    app: str
    folder: Path
    server: PrefectServer
    running: RunningRegistry
    front: FaultyProxy
    docker: docker.DockerClient
    base: str
    place: DockerRuntime | KubernetesRuntime = field(default_factory=DockerRuntime)
    environment: str = ENVIRONMENT
    made: int = 0
    repository: Repository = field(init=False)
    models: Path = field(init=False)

    def __post_init__(self) -> None:
        self.repository = Repository(self.folder / "git")
        self.models = self.folder / "models"
        self.models.mkdir()

    # What people do

    def commit(self, word: str = "one", behaviour: str = "good", **files: str) -> str:
        """Commit and push the app, with some of its files replaced (`linkspan_toml` for linkspan.toml)."""
        named = {name.replace("_", "."): text for name, text in files.items()}
        content = {**tiny_app.files(self.app, self.base, word, behaviour), **named}
        return self.repository.commit(content, subject=f"Say {word}")

    def model_folder(self, *, seed: int = 0, labels: str = tiny_app.LABELS, side: int = 300) -> Path:
        """A model's files: about `4 * side²` bytes, others for each seed."""
        self.made += 1
        folder = self.folder / f"trained-{self.made}"
        linear_model(side, side, folder / "model.onnx", seed=seed)
        (folder / "labels.txt").write_text(labels)
        return folder

    def publish(self, folder: Path | None = None, version: str | None = None, **options: Any) -> Model:
        return publish(
            FileModelStore(path=str(self.models)).objects(),
            MODEL,
            folder or self.model_folder(**options),
            version=version,
            metrics={"accuracy": 0.97},
            published_by="Grace",
        )

    def roll_back(self, to: str = "") -> Revision:
        """What `linkspan rollback` does."""
        from linkspan.cli.rollback import choose

        live = self.live()
        target = choose(self.runtime().history(self.service), live, to)
        with self.registry() as registry:
            wanted = again(registry, target, self.environment)
        change = {"cause": "rollback by Ada", "pinned": True, "expect": live.number if live else 0}
        return self.runtime().roll_out(wanted.model_copy(update=change), say=lambda _: None)

    # What is there

    @property
    def service(self) -> Service:
        return Service(app=self.app, environment=self.environment)

    def runtime(self) -> Runtime:
        auth = {"username": self.running.username, "password": self.running.password}
        return self.place.open(auth)

    def live(self) -> Revision | None:
        return self.runtime().live(self.service)

    def revision(self) -> Revision:
        live = self.live()
        assert live is not None, "nothing is live"
        return live

    def ask(self, path: str = "/version") -> Any:
        return httpx.get(self.runtime().url(self.service) + path, timeout=5).raise_for_status().json()

    def registry(self) -> Registry:
        return self.running.settings(host=self.front.host).open(self.app)

    def tags(self, prefix: str = "") -> set[str]:
        with self.registry() as registry:
            return {tag for tag in registry.tags() if tag.startswith(prefix)}

    def layer(self) -> tuple[str, int]:
        """Digest and size of the live release's model layer."""
        with self.registry() as registry:
            last = registry.manifest(self.revision().release.image).document["layers"][-1]
        return last["digest"], last["size"]

    def sent(self) -> int:
        """Bytes pushed to the app's repository since `front.reset()`."""
        return self.front.sent_to(self.app)

    # The flows

    async def save_blocks(self, *, password: str = "", models: Path | None = None, **store: Any) -> None:
        names = {
            "host": self.front.host,
            "username": self.running.username,
            "password": password or self.running.password,
        }
        blocks: dict[str, Any] = {
            self.app: [
                GitRepository(url=str(self.repository.bare)),
                FileModelStore(path=str(models or self.models), **store),
                ContainerRegistry(**names),
                ImageBuilder(memory="512m"),
            ],
            str(self.service): [self.place],
        }
        for name, group in blocks.items():
            for block in group:  # one by one: two that are the first of their types may collide
                await block.save(name, overwrite=True)

    @contextmanager
    def at(self, environment: str) -> Iterator[None]:
        """Everything in the block is about another environment of the app."""
        before, self.environment = self.environment, environment
        try:
            yield
        finally:
            self.environment = before

    def parameters(self, *names: str) -> dict[str, str]:
        known = {
            "app": self.app,
            "repository": f"git-repository/{self.app}",
            "store": f"file-model-store/{self.app}",
            "registry": f"container-registry/{self.app}",
            "builder": f"image-builder/{self.app}",
            "runtime": f"{self.place.get_block_type_slug()}/{self.service}",
            "environment": self.environment,
            "model_stream": f"model-stream/{self.app}",
        }
        return {name: known[name] for name in names}

    async def app_stream(self, **options: Any) -> Ended:
        named = self.parameters("app", "repository", "registry", "builder")
        return await ended(await app_stream(**named, **{"converge": [], **options}, return_state=True))

    async def model_stream(self, **options: Any) -> Ended:
        named = self.parameters("app", "repository", "store", "registry")
        return await ended(await model_stream(**named, **{"converge": [], **options}, return_state=True))

    def release_parameters(self) -> dict[str, str]:
        """Those of build-and-deploy."""
        return self.parameters(
            "app", "environment", "repository", "store", "registry", "builder", "runtime", "model_stream"
        )

    async def release(self, **options: Any) -> Ended:
        named = self.release_parameters()
        return await ended(await build_and_deploy(**named, **options, return_state=True))

    async def all_three(self, **options: Any) -> Ended:
        """Both streams, then the release: what the deployments do one after the other."""
        assert (await self.app_stream()).type == "COMPLETED"
        assert (await self.model_stream()).type == "COMPLETED"
        return await self.release(**options)

    async def first_release(self) -> Revision:
        """What the flows make of a first commit and model, by what they call; others test the flows."""
        self.commit()
        self.publish()
        await asyncio.to_thread(self._release)
        return self.revision()

    def _release(self) -> None:
        source = GitRepository(url=str(self.repository.bare)).open()
        models = open_models(FileModelStore(path=str(self.models)), MODEL)
        builder = ImageBuilder(memory="512m").open()
        auth = self.running.settings(host=self.front.host).docker_auth()
        commit, pinned = source.newest(), models.newest()
        assert commit is not None
        assert pinned is not None
        with self.registry() as registry:
            built = build(source, registry, builder, commit, refresh=False, on_purpose=False, say=_quiet)
            push(builder, registry, built, auth=auth, say=_quiet)
            code = newest_code(source, registry, None)
            assert code is not None
            path = code.config.model.path
            packaged = package(models, registry, pinned, path, say=_quiet, progress=lambda _: None)
            runtime = self.runtime()
            planned = plan(registry, runtime, code, packaged, self.environment)
            push_candidate(registry, code, packaged)
            confirm(registry, planned.candidate.release)
            roll_out(registry, runtime, planned, self.environment, cause="build-and-deploy", say=_quiet)

    def destroy(self) -> None:
        self.runtime().destroy(self.service)
        for image in self.docker.images.list(filters={"label": f"dev.linkspan.app={self.app}"}):
            self.docker.images.remove(str(image.id), force=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _quiet(_: object) -> None:
    """For words that no test looks at."""


def pair_of(body: bytes) -> str:
    """The commit and the model that an answer of the app names; for a prober."""
    answer = json.loads(body)
    return f"{answer['commit']} {answer['model']}"


async def ended(state: State[Any]) -> Ended:
    result = await state.aresult(raise_on_failure=False) if state.is_failed() else None
    return Ended(
        id=state.state_details.flow_run_id,
        name=state.name or "",
        type=state.type.value,
        message=state.message or "",
        error=result if isinstance(result, BaseException) else None,
    )


async def flow_run(run_id: Any) -> FlowRun:
    async with get_client() as client:
        return await client.read_flow_run(run_id)


async def task_runs(run_id: Any) -> dict[str, TaskRun]:
    """The steps of a run by name, once the server has heard the end of all of them."""
    end = time.monotonic() + 20
    while True:
        async with get_client() as client:
            runs = await client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
            )
        if runs and all(run.state and run.state.is_final() for run in runs):
            return {run.name.rsplit("-", 1)[0]: run for run in runs}
        assert time.monotonic() < end, [(run.name, run.state_name) for run in runs]
        await asyncio.sleep(0.2)
