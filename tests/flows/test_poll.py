"""Looking at places that cannot call us: one run per state of a source, however often it is looked at."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import get_client
from prefect.logging.handlers import APILogHandler

from blocks import FileModelStore, GitRepository
from flows.poll import poll
from linkspan.models import publish
from linkspan.nouns import short
from tests.flows.engine_flows import scheduled
from tests.onnx_models import linear_model
from tests.repos import Repository
from tests.services.prefect_server import PrefectServer


class Place:
    """A repository, a store, and what polling them started."""

    def __init__(self, folder: Path, server: PrefectServer) -> None:
        self.name = f"poll-{uuid4().hex[:8]}"
        self.repository = Repository(folder / "git")
        self.models = folder / "models"
        self.models.mkdir()
        self.server = server
        self.folder = folder
        self.stream = f"{scheduled.name}/{self.name}"

    async def save(self) -> None:
        """Also a stream, for which nobody works: its runs stay."""
        async with get_client() as client:
            await client.create_deployment(
                flow_id=await client.create_flow(scheduled),
                name=self.name,
                parameter_openapi_schema=scheduled.parameters.model_dump(),
            )
        await GitRepository(url=str(self.repository.bare)).save(self.name)
        await FileModelStore(path=str(self.models)).save(self.name)

    def commit(self, word: str) -> str:
        return self.repository.commit({"word": word}, subject=word)

    def publish(self) -> None:
        folder = self.folder / uuid4().hex
        folder.mkdir()
        linear_model(3, 3, folder / "model.onnx")
        publish(FileModelStore(path=str(self.models)).objects(), "digits", folder, published_by="Grace")

    async def poll(self, **options: list[str]) -> str:
        streams = {"code_streams": [self.stream], "model_streams": [self.stream], **options}
        state = await poll(
            app=self.name,
            repository=f"git-repository/{self.name}",
            store=f"file-model-store/{self.name}",
            **streams,
            return_state=True,
        )
        assert state.is_completed(), state
        return state.message or ""

    @property
    def started(self) -> list[str]:
        """Hints of the runs that were started, oldest first."""
        with self.server.api() as api:
            runs = api.recent_runs(self.stream, limit=200)
        return [run.parameters["hint"] for run in sorted(runs, key=lambda run: run.created)]


@pytest.fixture
async def place(
    tmp_path: Path, engine_flows: PrefectServer, prefect_api: PrefectServer
) -> AsyncIterator[Place]:
    assert engine_flows is prefect_api
    made = Place(tmp_path, engine_flows)
    await made.save()
    yield made
    await APILogHandler.aflush()  # else the last lines look for the server when the session is over


async def test_each_state_of_a_source_starts_one_run(place: Place) -> None:
    assert await place.poll() == "no commit, no model"
    assert place.started == []

    first = place.commit("one")
    for _ in range(3):
        assert await place.poll() == f"{short(first)}, no model"
    assert place.started == [f"a look at the branch: {short(first)}"]

    place.publish()
    for _ in range(2):
        await place.poll()
    assert place.started[1:] == ["a look at the store"]

    place.commit("two")
    last = place.commit("three")
    place.publish()
    await place.poll()
    assert sorted(place.started[2:]) == [f"a look at the branch: {short(last)}", "a look at the store"]


async def test_what_nobody_follows_is_not_asked_for(place: Place) -> None:
    place.commit("one")
    place.models.rmdir()  # asking for it would fail
    await place.poll(model_streams=[])
    assert len(place.started) == 1
