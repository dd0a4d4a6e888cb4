"""Both streams and the release on a real cluster, with the rights in k8s/linkspan and no others."""

from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest
from prefect.logging.handlers import APILogHandler
from pydantic import SecretStr

from blocks import KubernetesRuntime
from linkspan.prober import Prober
from linkspan.runtimes.kube_names import CHANGE_CAUSE, RUN
from tests.e2e.conftest import new_world
from tests.e2e.front import FaultyProxy
from tests.e2e.world import World
from tests.prober import assert_no_failure
from tests.runtimes.harness import allow, as_linkspan
from tests.services.cluster import RunningCluster
from tests.services.prefect_server import PrefectServer
from tests.services.registry import RunningRegistry


@pytest.fixture
async def world(
    tmp_path: Path,
    cluster: RunningCluster,
    prefect_api: PrefectServer,
    e2e_registry: tuple[RunningRegistry, FaultyProxy],
    docker_client: docker.DockerClient,
    base_image: str,
) -> AsyncIterator[World]:
    account = as_linkspan(cluster, tmp_path / "kubeconfig")
    with new_world(tmp_path, prefect_api, e2e_registry, docker_client, base_image) as made:
        made.place = KubernetesRuntime(kubeconfig=SecretStr(account.read_text()))
        allow(cluster, str(made.service))
        await made.save_blocks()
        yield made
        await APILogHandler.aflush()  # else the last lines look for the server when the session is over
    cluster.run("delete", "namespace", str(made.service), "--wait=false")


def said(body: bytes) -> str:
    return body.decode()


@pytest.mark.slow
async def test_the_life_of_a_release_on_a_cluster(world: World, cluster: RunningCluster) -> None:
    namespace = str(world.service)
    first = await world.first_release()
    assert world.ask()["word"] == "one"

    with Prober(f"{world.runtime().url(world.service)}/version", said) as prober:
        world.publish(seed=1)
        assert (await world.model_stream()).name == "Completed"
        assert (await world.release()).name == "Completed"
        sha = world.commit("two")
        assert (await world.app_stream()).name == "Completed"
        assert (await world.release()).name == "Completed"
        assert (await world.release()).name == "UpToDate"

        # What the smoke test cannot see: it dies once it serves.
        world.commit("three", behaviour="dies soon")
        assert (await world.app_stream()).name == "Completed"
        bad = await world.release()
        assert bad.type == "FAILED"
        assert "exited with code 7: lost its licence" in bad.says
        assert (await world.release()).name == "HeldBack"
        assert world.revision().release.commit.sha == sha

        # By hand, behind Linkspan's back.
        cluster.run("set", "env", "-n", namespace, "deployment/app", "LINKSPAN_TEST=by-hand")
        cluster.run("scale", "-n", namespace, "deployment/app", "--replicas=3")
        cluster.run("delete", "-n", namespace, "networkpolicy/app")
        mended = await world.release()
        assert mended.name == "Repaired"
        assert "NetworkPolicy/app is missing" in mended.message
    assert_no_failure(prober.report)
    cluster.get(namespace, "networkpolicy", "app")

    deployment = cluster.get(namespace, "deployment", "app")["metadata"]["annotations"]
    assert deployment[CHANGE_CAUSE].startswith(world.revision().release.title)
    assert "/runs/flow-run/" in deployment[RUN]
    assert world.ask() == {"word": "two", "commit": sha, "model": "v2"}

    back = world.roll_back("1")
    assert (back.number, back.release, back.pinned) == (5, first.release, True)
    assert (await world.release()).name == "Pinned"
    assert world.ask()["word"] == "one"
    outcomes = [each.outcome for each in world.runtime().history(world.service)]
    assert outcomes == ["live", "failed", "replaced", "replaced", "replaced"]
