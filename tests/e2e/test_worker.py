"""The three flows under a real worker: they start each other, a burst is a few runs, a killed run goes on."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import docker
import pytest
import yaml
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from demo.prober import Prober, Report
from linkspan.errors import ServerUnavailable
from tests.e2e.conftest import new_world
from tests.e2e.deployed import all_runs, hint, prefect_file, start_anew
from tests.e2e.front import FaultyProxy
from tests.e2e.killable import TRAPS
from tests.e2e.world import World, pair_of
from tests.prober import assert_no_failure
from tests.services.postgres import running_postgres
from tests.services.prefect_server import PrefectServer, asked
from tests.services.registry import RunningRegistry
from tests.waiting import Patience, until

# Some ten starts of a process each: seconds on a quiet machine, minutes on a busy one.
pytestmark = [pytest.mark.calm, pytest.mark.timeout(1800), pytest.mark.needs("prefect", "postgres")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """On PostgreSQL: SQLite refuses too much of what four apps and their worker ask for at once."""
    with (
        running_postgres() as database,
        PrefectServer(tmp_path_factory.mktemp("prefect"), database=database).running() as made,
    ):
        yield made


@pytest.fixture(scope="module")
def worlds(
    server: PrefectServer,
    e2e_registry: tuple[RunningRegistry, FaultyProxy],
    docker_client: docker.DockerClient,
    base_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[World]]:
    """A world for each of the series, with deployments of their own and one worker for all; all are live."""
    folder = tmp_path_factory.mktemp("worker")
    settings = {
        PREFECT_API_URL: server.api_url,
        PREFECT_API_AUTH_STRING: server.auth,
    }
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv(TRAPS, str(folder / "traps"))
        made = [
            stack.enter_context(
                new_world(folder / str(number), server, e2e_registry, docker_client, base_image)
            )
            for number in range(len(SERIES))
        ]
        files = [prefect_file(each, "tests.e2e.killable.{0}") for each in made]
        deployments = [each for file in files for each in file["deployments"]]
        (folder / "prefect.yaml").write_text(yaml.safe_dump({**files[0], "deployments": deployments}))
        server.set_up(folder / "prefect.yaml")
        stack.enter_context(temporary_settings(settings))
        for each in made:
            (folder / "traps" / each.app).mkdir(parents=True)
            asyncio.run(each.save_blocks())
        stack.enter_context(server.worker())
        # By the flows for one of them, as its test sees.
        sha = made[0].commit("one")
        made[0].publish()
        hint(made[0], "app-stream", "push by Ada")
        hint(made[0], "model-stream", "publish by Grace")
        for each in made[1:]:
            asyncio.run(each.first_release())
        wait_until_live(made[0], sha, "v1")
        yield made


@pytest.fixture
def world(worlds: list[World]) -> World:
    return worlds[0]


def wait_until_live(world: World, commit: str, model: str) -> int:
    """Until the pair answers and no run is under way; a failed run fails at once, and so does a standstill.

    Returns how many crashed runs nobody restarted but this (`start_anew`).
    """
    patience = Patience()
    earlier = {run.id for _, run in all_runs(world) if run.state_type == "CRASHED"}  # of tests before
    left = set(earlier)
    while True:
        time.sleep(2)  # four of these ask at once
        try:
            runs, live = all_runs(world), world.live()
        except ServerUnavailable as error:
            patience.look(patience.seen, str(error))
            continue
        there = live and (live.release.commit.sha, live.release.model.version) == (commit, model)
        if there and all(run.state_type in {"COMPLETED", "CANCELLED"} or run.id in left for _, run in runs):
            break
        told = "\n".join(
            f"{run.name}, attempt {run.run_count}: {run.state_name} {run.message}"
            for _, run in runs
            if run.state_name != "Superseded"
        )
        assert not [run for _, run in runs if run.state_type == "FAILED"], told
        patience.look(told, f"{commit} + {model} is not live\n{told}")
        start_anew(world, runs, left)
    answer = world.ask()
    assert (answer["commit"], answer["model"]) == (commit, model)
    return len(left - earlier)


def test_the_streams_start_each_other_to_a_first_release(world: World) -> None:
    """Two hints are all that the fixture gave."""
    first = world.runtime().history(world.service)[-1]
    assert first.cause in {"push by Ada", "publish by Grace"}
    assert first.release.model.version == "v1"


def pause(world: World, flow: str, *, paused: bool = True) -> None:
    """Let no run of one of the world's flows begin, or let them again."""
    queue = f"work_pools/linkspan/queues/{flow}-{world.app}"
    asked(world.server.api_url, world.server.auth, "PATCH", queue, {"is_paused": paused})


def begun(world: World, ids: set[str]) -> bool:
    """Whether one of these runs has."""
    return any(run.run_count for _, run in all_runs(world) if run.id in ids)


def test_of_thirty_hints_few_run_and_the_last_commit_is_live(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    ids: set[str] = set()
    version = world.revision().release.model.version
    for burst in range(3):
        pause(world, "app-stream")  # on a busy machine a run may take no longer than a hint
        ten = {hint(world, "app-stream", f"push {burst}{number}") for number in range(9)}
        sha = world.commit(f"burst {burst}")
        ten.add(hint(world, "app-stream", f"push {burst}9"))
        pause(world, "app-stream", paused=False)
        until(partial(begun, world, ten))  # the next ten come while it goes on
        ids |= ten
    wait_until_live(world, sha, version)
    states = Counter(run.state_name for _, run in all_runs(world) if run.id in ids)
    with capsys.disabled():
        sys.stdout.write(f"\n  30 hints, 3 commits: {dict(states)}\n")
    assert states["Completed"] + states["Superseded"] == 30
    assert states["Completed"] <= 8


CODE = ["find_commit", "look_up", "build", "run_tests", "push"]
MODEL = ["read_config", "pin", "look_up", "package"]
RELEASE = [
    "find_code",
    "find_model",
    "compare",
    "link",
    "smoke_test",
    "confirm",
    "roll_out",
    "write_report",
]


def before(module: str, *steps: str) -> list[str]:
    return [f"before {module} {step}" for step in steps]


# At most four a run: the fifth attempt must be left (flows/coalesce.py). Three where there is room: a busy
# machine may cost an attempt, too.
SERIES: dict[str, tuple[str, list[str]]] = {
    "to the comparison": (
        "commit",
        before("code_steps", *CODE[:3]) + before("release_steps", *RELEASE[:3]),
    ),
    "from the app's tests on": (
        "commit",
        [
            *before("code_steps", *CODE[3:]),
            "before app_stream start",
            "after app_stream start",
            *before("release_steps", *RELEASE[3:6], "write_report"),
        ],
    ),
    "to the report": (
        "model",
        [
            *before("model_steps", *MODEL[:3]),
            *before("release_steps", "roll_out"),
            "after release_steps write_report",
        ],
    ),
    "around the start of a release": (
        "model",
        [
            *before("model_steps", *MODEL[3:]),
            "before model_stream start",
            "after model_stream start",
            "after release_steps roll_out",
        ],
    ),
}


class Told(NamedTuple):
    """What came of a series: what was live before and after it, and what clients saw."""

    pairs: list[str]
    not_restarted: int
    report: Report


@pytest.fixture(scope="module")
def told(worlds: list[World]) -> Iterator[dict[str, Future[Told]]]:
    """All series at once: Prefect waits ten seconds before it starts a run again that was killed."""
    with ThreadPoolExecutor(len(SERIES)) as pool:
        yield {
            name: pool.submit(killed, world, *series)
            for world, (name, series) in zip(worlds, SERIES.items(), strict=True)
        }


def killed(world: World, what: str, traps: list[str]) -> Told:
    live = world.revision()
    folder = Path(os.environ[TRAPS], world.app)
    for trap in traps:
        (folder / trap).touch()
    with Prober(world.runtime().url(world.service) + "/version", pair_of, per_second=10) as prober:
        if what == "commit":
            sha, version = world.commit(uuid4().hex), live.release.model.version
            hint(world, "app-stream", "push by Ada")
        else:
            sha, version = live.release.commit.sha, world.publish(seed=live.number + 10).version
            hint(world, "model-stream", "publish by Grace")
        not_restarted = wait_until_live(world, sha, version)
    assert list(folder.iterdir()) == [], "a run passed there unhurt"
    before = f"{live.release.commit.sha} {live.release.model.version}"
    return Told([before, f"{sha} {version}"], not_restarted, prober.report)


@pytest.mark.parametrize("name", SERIES)
def test_killed_at_every_boundary_the_work_is_finished_and_nobody_notices(
    told: dict[str, Future[Told]], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, not_restarted, report = told[name].result()
    with capsys.disabled():
        kills = len(SERIES[name][1])
        sys.stdout.write(f"\n  {kills} kills, {not_restarted} runs not restarted; {report.summary()}\n")
    assert_no_failure(report)
    assert list(report.versions) == pairs
