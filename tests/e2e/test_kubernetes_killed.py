"""A worker that dies with its run (SIGKILL) at any step of a rollout on a cluster: the next run ends it well.

Here are the boundaries at which the cluster is changed. That Prefect starts a killed run again, and the
boundaries before them, which know no cluster, are in test_worker.py.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from demo.prober import Prober
from linkspan.runtimes.kubernetes import marks
from tests.e2e.killable import TRAPS
from tests.e2e.world import World, pair_of
from tests.prober import assert_no_failure
from tests.services.cluster import RunningCluster


@pytest.fixture
def world(cluster_world: World) -> World:
    return cluster_world


async def killed_at(world: World, trap: str) -> None:
    """One run in a process of its own, which dies at the trap."""
    folder = world.folder / "traps" / world.app
    folder.mkdir(parents=True, exist_ok=True)
    (folder / trap).touch()
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.e2e.killable", json.dumps(world.release_parameters()),
        env={**world.server.env, TRAPS: str(folder.parent)},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    said, errors = await asyncio.wait_for(run.communicate(), 1200)
    assert run.returncode == -9, f"{trap}: it ended {said.decode()}\n{errors.decode()[-3000:]}"
    assert list(folder.iterdir()) == [], trap


def states(cluster: RunningCluster, world: World) -> list[str]:
    """What the cluster says of each revision, the oldest first."""
    found = cluster.get(str(world.service), "controllerrevision", "-l", marks.HISTORY)["items"]
    found.sort(key=lambda each: each["revision"])
    return [each["metadata"]["annotations"][marks.OUTCOME] for each in found]


def running(cluster: RunningCluster, world: World) -> list[str]:
    """The revisions that have pods, or should have."""
    found = cluster.get(str(world.service), "replicasets")["items"]
    return [each["metadata"]["labels"][marks.REVISION] for each in found if each["spec"]["replicas"]]


@pytest.mark.slow
@pytest.mark.timeout(1800)  # begins early
async def test_killed_at_every_boundary_of_a_rollout_the_next_run_finishes_or_restores(
    world: World, cluster: RunningCluster
) -> None:
    first = await world.first_release()
    seen = [f"{first.release.commit.sha} v1"]
    with Prober(f"{world.runtime().url(world.service)}/version", pair_of, per_second=20) as prober:
        # A good release, killed until it is live.
        sha = world.commit("two")
        assert (await world.app_stream()).name == "Completed"
        for trap in (
            "said smoke test: ready",
            "after release_steps confirm",
            "said applying",
            "said waiting until all",
            "said all are ready",
            "before marked replaced",
        ):
            await killed_at(world, trap)
            live = 2 if trap == "before marked replaced" else 1
            assert world.revision().number == live, trap
            assert [each.outcome for each in world.runtime().history(world.service)].count("live") == 1, trap
        assert (await world.release()).name == "Repaired", "what was left of the one before is done"
        second = world.revision()
        assert second.release.commit.sha == sha
        assert running(cluster, world) == ["2"]
        seen.append(f"{sha} v1")

        # A bad one, killed until what it was to replace is back.
        world.commit("three", behaviour="dies when rolled out")
        assert (await world.app_stream()).name == "Completed"
        for trap in ("said putting", "before marked failed", "before rejected"):
            await killed_at(world, trap)
            assert world.revision() == second, trap
        bad = await world.release()
        assert bad.type == "FAILED"
        assert "exited with code 7: lost its licence" in bad.says
        assert (await world.release()).name == "HeldBack"
        assert world.revision() == second
        assert running(cluster, world) == ["2"]

        # One that mends it, killed when it is live.
        sha = world.commit("four")
        assert (await world.app_stream()).name == "Completed"
        await killed_at(world, "said : live")
        assert (await world.release()).name == "UpToDate"
        seen.append(f"{sha} v1")
        assert await asyncio.to_thread(prober.wait_for, seen[-1], seconds=600)
    assert_no_failure(prober.report)
    assert list(prober.report.versions) == seen
    assert running(cluster, world) == [str(world.revision().number)]
    assert "rolling" not in states(cluster, world)
    assert states(cluster, world).count("live") == 1
    assert not world.runtime().drift(world.service, 1)
