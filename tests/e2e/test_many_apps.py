"""Many apps at once on one worker and one Prefect server with SQLite, as `linkspan up` has them."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import docker
import pytest
import yaml
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from demo.prober import Prober
from linkspan.errors import ServerUnavailable
from tests.e2e.conftest import new_world
from tests.e2e.deployed import all_runs, hint, prefect_file, start_anew
from tests.e2e.front import FaultyProxy
from tests.e2e.world import World, pair_of
from tests.effort import effort
from tests.prober import assert_no_failure
from tests.services.prefect_server import PrefectServer
from tests.services.registry import RunningRegistry
from tests.waiting import until

pytestmark = [pytest.mark.calm, pytest.mark.timeout(1800), pytest.mark.needs("prefect")]

APPS = effort(usual=3, long=10)
FLOWS = ("app-stream", "model-stream")


@pytest.fixture
def worlds(
    tmp_path: Path,
    e2e_registry: tuple[RunningRegistry, FaultyProxy],
    docker_client: docker.DockerClient,
    base_image: str,
) -> Iterator[list[World]]:
    """Apps that have nothing yet, their deployments, and one worker for all of them."""
    with ExitStack() as stack:
        server = stack.enter_context(PrefectServer(tmp_path / "prefect").running())
        made = [
            stack.enter_context(
                new_world(tmp_path / str(number), server, e2e_registry, docker_client, base_image)
            )
            for number in range(APPS)
        ]
        files = [prefect_file(each) for each in made]
        deployments = [each for file in files for each in file["deployments"]]
        (tmp_path / "prefect.yaml").write_text(yaml.safe_dump({**files[0], "deployments": deployments}))
        server.set_up(tmp_path / "prefect.yaml")
        settings = {PREFECT_API_URL: server.api_url, PREFECT_API_AUTH_STRING: server.auth}
        stack.enter_context(temporary_settings(settings))
        for each in made:
            asyncio.run(each.save_blocks())
        stack.enter_context(server.worker())
        yield made


def released(world: World, word: str, seed: int) -> str:
    """Commit and publish, both told at once: the pair that must be live in the end."""
    sha, model = world.commit(word), world.publish(seed=seed)
    for flow in FLOWS:
        hint(world, flow, word)
    return f"{sha} {model.version}"


def is_live(world: World, pair: str, left: set[str]) -> bool:
    """Whether the pair answers and no run of the app is under way. Fails as soon as one of its runs has.

    `left` gets the crashed runs that nobody restarted but this.
    """
    try:
        runs = all_runs(world)
    except ServerUnavailable:
        return False  # it is busy
    bad = [f"{run.name}: {run.state_name} {run.message}" for _, run in runs if run.state_type == "FAILED"]
    assert not bad, bad
    start_anew(world, runs, left)
    done = all(run.state_type in {"COMPLETED", "CANCELLED"} or run.id in left for _, run in runs)
    return done and " ".join(world.answers("commit", "model")) == pair


def wait_until_live(worlds: list[World], pairs: list[str], left: set[str]) -> float:
    """Seconds until all are."""
    began = time.monotonic()
    for world, pair in zip(worlds, pairs, strict=True):
        until(partial(is_live, world, pair, left), 1500, what=f"{world.app}: {pair} is live")
    return time.monotonic() - began


def test_all_are_released_and_no_request_fails(
    worlds: list[World], capsys: pytest.CaptureFixture[str]
) -> None:
    left: set[str] = set()
    first = [released(world, "one", number) for number, world in enumerate(worlds)]
    took = [wait_until_live(worlds, first, left)]
    with ExitStack() as stack:
        urls = [f"{world.runtime().url(world.service)}/version" for world in worlds]
        probers = [stack.enter_context(Prober(url, pair_of, per_second=5)) for url in urls]
        second = [released(world, "two", 100 + number) for number, world in enumerate(worlds)]
        took.append(wait_until_live(worlds, second, left))
    with capsys.disabled():
        sent = sum(prober.report.total for prober in probers)
        told = f"live {took[0]:.0f} s after the last was told, their next releases {took[1]:.0f} s"
        sys.stdout.write(
            f"\n  {APPS} apps at once: {told}; {sent} requests, {len(left)} runs not restarted\n"
        )
    for prober, old, new in zip(probers, first, second, strict=True):
        assert_no_failure(prober.report)
        assert {old, new} <= set(prober.report.versions)
