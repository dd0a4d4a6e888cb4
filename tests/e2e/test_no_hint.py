"""Nobody calls: a commit and a model appear, every hint is lost, and the clock alone makes the release."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import docker
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterStartTime,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from tests.e2e.conftest import new_world
from tests.e2e.deployed import prefect_file
from tests.e2e.front import FaultyProxy
from tests.e2e.plain import MODEL
from tests.e2e.world import World
from tests.services.prefect_server import PrefectServer
from tests.services.registry import RunningRegistry
from tests.waiting import until

EVERY = 10
"""Seconds between two scheduled runs; prefect.yaml has minutes."""
CLOCK = {"slug": "reconcile", "interval": EVERY, "parameters": {"hint": "the clock"}}
SECONDS = 900

pytestmark = [pytest.mark.slow, pytest.mark.calm, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def server(postgres: SecretStr, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """On PostgreSQL: on a busy machine SQLite may refuse what a worker asks for, and its run has crashed."""
    with PrefectServer(tmp_path_factory.mktemp("no-hint"), database=postgres).running() as made:
        yield made


@pytest.fixture
def world(
    server: PrefectServer,
    e2e_registry: tuple[RunningRegistry, FaultyProxy],
    docker_client: docker.DockerClient,
    base_image: str,
    tmp_path: Path,
) -> Iterator[World]:
    """A world with blocks; nothing is deployed."""
    settings = {PREFECT_API_URL: server.api_url, PREFECT_API_AUTH_STRING: server.auth}
    with (
        new_world(tmp_path, server, e2e_registry, docker_client, base_image) as made,
        temporary_settings(settings),
    ):
        asyncio.run(made.save_blocks())
        yield made


def test_a_look_at_the_sources_starts_the_streams(world: World) -> None:
    """What the schedule `look` does where nobody can call us."""
    sources = {
        **world.parameters("app", "repository", "store"),
        "model": MODEL,
        "code_streams": [f"app-stream/{world.app}"],
        "model_streams": [f"model-stream/{world.app}"],
    }
    poll = {
        "name": world.app,
        "entrypoint": "flows.poll.poll",
        "flow_name": "poll",
        "parameters": sources,
        "work_pool": {"name": "linkspan", "work_queue_name": f"poll-{world.app}"},
        "schedules": [{"slug": "look", "interval": EVERY}],
    }
    file = prefect_file(world)
    with deployed(world, {**file, "deployments": [*file["deployments"], poll]}):
        for word, version in (("one", "v1"), ("two", "v2")):
            sha = world.commit(word)
            world.publish(seed=world.made)
            wait_until_live(world, sha, version)
        runs = asyncio.run(all_runs(world))
    # By what it was given: a run that has just begun has no name yet.
    assert {run.auto_scheduled for run in runs if "code_streams" not in run.parameters} == {False}
    hints = [run.parameters.get("hint", "") for run in runs]
    assert sum(hint.startswith("a look at the branch: ") for hint in hints) >= 2
    assert "a look at the store" in hints


def test_the_reconcile_of_each_flow_converges_by_itself(world: World) -> None:
    """Also where one flow cannot tell the next that it has something new."""
    file = prefect_file(world)
    for each in file["deployments"]:
        each["schedules"] = [CLOCK]
        if "converge" in each["parameters"]:
            each["parameters"]["converge"] = []
    with deployed(world, file):
        sha = world.commit()
        world.publish()
        wait_until_live(world, sha, "v1")
        runs = asyncio.run(all_runs(world))
    assert world.revision().cause == "the clock"
    by_hand = [run for run in runs if not run.auto_scheduled]
    # A release that lacks a validated model asks for one: that is no hint of anybody's either.
    assert asyncio.run(flows_of(by_hand)) <= {"model-stream"}


@contextmanager
def deployed(world: World, file: dict[str, Any]) -> Iterator[None]:
    """With these deployments and a worker for them; they are gone when the block ends, the server stays."""
    for each in file["deployments"]:
        each["tags"] = ["linkspan", world.app]
    path = world.folder / "prefect.yaml"
    path.write_text(yaml.safe_dump(file))
    try:
        world.server.set_up(path)
        with world.server.worker():
            yield
    finally:
        asyncio.run(remove(world))


def wait_until_live(world: World, commit: str, version: str) -> None:
    end = time.monotonic() + SECONDS
    while True:
        live = world.live()
        if live and (live.release.commit.sha, live.release.model.version) == (commit, version):
            break
        runs = asyncio.run(all_runs(world))
        told = [f"{run.name} {run.state_name} {run.state.message}" for run in runs if run.state]
        assert not [run for run in runs if run.state_type and run.state_type.value == "FAILED"], told
        assert time.monotonic() < end, f"{commit} + {version} not live after {SECONDS} s: {told}"
        time.sleep(0.5)
    # What is live is noted a moment before nginx knows: until then it says that nothing is released.
    until(lambda: world.answers("commit", "model") == [commit, version])


async def all_runs(world: World) -> list[FlowRun]:
    """The newest 200 runs of the world's deployments that have started."""
    # Asked for like that: those that the clock will start fill a page too.
    started = FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False))
    async with get_client() as client:
        return await client.read_flow_runs(
            deployment_filter=_mine(world),
            flow_run_filter=started,
            sort=FlowRunSort.START_TIME_DESC,
            limit=200,
        )


async def flows_of(runs: list[FlowRun]) -> set[str]:
    """The names of the flows that these are runs of."""
    async with get_client() as client:
        return {(await client.read_flow(each)).name for each in {run.flow_id for run in runs}}


async def remove(world: World) -> None:
    async with get_client() as client:
        for each in await client.read_deployments(deployment_filter=_mine(world)):
            await client.delete_deployment(UUID(str(each.id)))


def _mine(world: World) -> DeploymentFilter:
    return DeploymentFilter(tags=DeploymentFilterTags(all_=[world.app]))
