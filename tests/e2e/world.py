"""One app in a world of its own, with Prefect: the real flows are called on it, in this very process."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.events.worker import EventsWorker

from blocks import ContainerRegistry, FileModelStore, GitRepository, ImageBuilder
from flows.app_stream import app_stream
from flows.build_and_deploy import build_and_deploy
from flows.model_stream import model_stream
from linkspan.nouns import Revision
from tests.e2e.plain import PlainWorld
from tests.services.prefect_server import PrefectServer
from tests.waiting import Patience


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


@dataclass(kw_only=True)
class World(PlainWorld):
    """The same with blocks on a real server."""

    server: PrefectServer
    builder: ImageBuilder = field(default_factory=lambda: ImageBuilder(memory="512m"))

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
                self.builder,
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
            "app", "environment", "repository", "store", "registry", "runtime", "model_stream"
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
        return await asyncio.to_thread(self.release_first)


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


async def task_runs(run_id: Any, *names: str) -> dict[str, TaskRun]:
    """The steps of a run by name, once the server has heard the end of all of them, and of those named."""
    await EventsWorker.drain_all()  # type: ignore[misc]  # it hears of steps by events
    patience = Patience()
    while True:
        async with get_client() as client:
            runs = await client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
            )
        found = {run.name.rsplit("-", 1)[0]: run for run in runs}
        if runs and found.keys() >= {*names} and all(run.state and run.state.is_final() for run in runs):
            return found
        told = sorted((run.name, run.state_name or "") for run in runs)
        patience.look(told, str(told))
        await asyncio.sleep(0.2)
