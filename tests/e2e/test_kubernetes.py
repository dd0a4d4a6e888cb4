"""Both streams and the release on a real cluster, with the rights in k8s/linkspan and no others."""

import asyncio
import statistics
import sys
import time

import pytest

from demo.prober import Kind, Prober
from linkspan.runtimes.kubernetes.marks import CHANGE_CAUSE, RUN
from tests.e2e import tiny_app
from tests.e2e.conftest import NewWorld, allowed
from tests.e2e.world import World, pair_of
from tests.effort import effort
from tests.prober import assert_no_failure
from tests.services.cluster import RunningCluster
from tests.waiting import until

RELEASES = effort(10, 20)
"""Half of them code, half of them models."""

STAGING = """
[environments.staging]
replicas = 2
memory = "64m"
cpu = "50m"
"""


@pytest.fixture
def world(cluster_world: World) -> World:
    return cluster_world


def said(body: bytes) -> str:
    return body.decode()


def two_replicas(world: World) -> str:
    """The app's linkspan.toml with another replica."""
    text = tiny_app.files(world.app, world.base)["linkspan.toml"]
    return text.replace("replicas = 1", "replicas = 2")


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_many_releases_and_a_rollback_fail_no_request(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = two_replicas(world)
    sha, version = world.commit(linkspan_toml=toml), world.publish().version
    assert (await world.all_three()).name == "Completed"
    pairs, seconds = [f"{sha} {version}"], []
    url = f"{world.runtime().url(world.service)}/version"
    clients: dict[Kind, int] = {"keep-alive": 2, "new connection": 2}
    with Prober(url, pair_of, per_second=effort(10, 25), clients=clients) as prober:
        for number in range(1, RELEASES + 1):
            if number % 2:
                sha, stream = world.commit(f"word {number}", linkspan_toml=toml), world.app_stream
            else:
                version, stream = world.publish(seed=number).version, world.model_stream
            start = time.monotonic()
            assert (await stream()).name == "Completed"
            assert (await world.release()).name == "Completed"
            pairs.append(f"{sha} {version}")
            assert await asyncio.to_thread(prober.wait_for, pairs[-1], seconds=600)
            seconds.append(time.monotonic() - start)

        world.front.reset()
        start = time.monotonic()
        back = world.roll_back()
        rollback = time.monotonic() - start
        assert world.sent() == 0, "it pushed something"
        again = prober.report.versions[pairs[-2]]
        await asyncio.to_thread(
            until, lambda: prober.report.versions[pairs[-2]] != again, what="an answer of what is back"
        )
        assert (await world.release()).name == "Pinned"
    report = prober.report
    with capsys.disabled():
        sys.stdout.write(
            f"\n  {RELEASES} releases: {min(seconds):.1f} s min, {statistics.median(seconds):.1f} s median, "
            f"{max(seconds):.1f} s max; rollback {rollback:.1f} s; {report.summary()}\n"
        )
    assert_no_failure(report)
    assert list(report.versions) == pairs, "each release answered, in this order"
    assert (back.number, back.pinned) == (RELEASES + 2, True)
    assert f"{back.release.commit.sha} {back.release.model.version}" == pairs[-2]
    outcomes = [each.outcome for each in world.runtime().history(world.service)]
    assert outcomes == ["live"] + (RELEASES + 1) * ["replaced"]


@pytest.mark.slow
async def test_what_is_bad_or_was_edited_by_hand_is_put_right(world: World, cluster: RunningCluster) -> None:
    namespace = str(world.service)
    world.commit()
    world.publish()
    assert (await world.all_three()).name == "Completed"
    first = world.revision()
    assert (await world.release()).name == "UpToDate"
    deployment = cluster.get(namespace, "deployment", "app")["metadata"]["annotations"]
    assert deployment[CHANGE_CAUSE].startswith(first.release.title)
    assert "/runs/flow-run/" in deployment[RUN]

    with Prober(f"{world.runtime().url(world.service)}/version", said, per_second=20) as prober:
        # What the smoke test cannot see.
        world.commit("two", behaviour="dies when rolled out")
        assert (await world.app_stream()).name == "Completed"
        bad = await world.release()
        assert bad.type == "FAILED"
        assert "exited with code 7: lost its licence" in bad.says
        assert (await world.release()).name == "HeldBack"
        assert world.revision() == first

        # By hand, behind Linkspan's back.
        cluster.run("set", "env", "-n", namespace, "deployment/app", "LINKSPAN_TEST=by-hand")
        cluster.run("scale", "-n", namespace, "deployment/app", "--replicas=3")
        cluster.run("delete", "-n", namespace, "networkpolicy/app")
        mended = await world.release()
        assert mended.name == "Repaired"
        assert "NetworkPolicy/app is missing" in mended.message
    assert_no_failure(prober.report)
    cluster.get(namespace, "networkpolicy", "app")
    assert world.ask()["word"] == "one"
    outcomes = [each.outcome for each in world.runtime().history(world.service)]
    assert outcomes == ["failed", "live"]


@pytest.mark.slow
async def test_apps_and_environments_side_by_side(
    new_cluster_world: NewWorld, cluster: RunningCluster
) -> None:
    """Two apps at once, one of them in two environments: each in a namespace of its own."""
    world, other = await new_cluster_world(), await new_cluster_world()
    toml = tiny_app.files(world.app, world.base)["linkspan.toml"] + STAGING
    sha = world.commit("ours", linkspan_toml=toml)
    world.publish()
    world.publish(seed=1)
    other.commit("theirs")
    other.publish()
    done = await asyncio.gather(world.all_three(), other.all_three())
    assert [each.name for each in done] == ["Completed", "Completed"]
    assert world.ask() == {"word": "ours", "commit": sha, "model": "v2"}
    before = world.revision(), other.revision()

    # An older model and two replicas in staging only.
    assert (await world.model_stream(version="v1")).name == "Completed"
    with world.at("staging"), allowed(cluster, str(world.service)):
        await world.save_blocks()
        assert (await world.release(model="v1")).name == "Completed"
        assert world.ask()["model"] == "v1"
        namespace = str(world.service)
        assert cluster.get(namespace, "deployment", "app")["spec"]["replicas"] == 2
        url = world.runtime().url(world.service)
        world.runtime().destroy(world.service)
    assert url not in {each.runtime().url(each.service) for each in (world, other)}
    assert (world.revision(), other.revision()) == before
    assert (await world.release()).name == (await other.release()).name == "UpToDate"
    assert (world.ask()["word"], other.ask()["word"]) == ("ours", "theirs")
