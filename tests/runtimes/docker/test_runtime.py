"""What is special about the docker runtime: its containers, port and proxy, and a machine that restarts."""

import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
import httpx
import pytest
from docker.errors import ImageNotFound

from demo.prober import Prober
from linkspan.errors import ConfigError, RolloutFailed, RuntimeUnavailable
from linkspan.nouns import Revision
from linkspan.processes import free_port
from linkspan.runtimes.base import Rollout, Service
from linkspan.runtimes.docker.files import KEEP
from linkspan.runtimes.docker.nginx import STATE, switch_conf
from linkspan.runtimes.docker.nginx_image import nginx_image
from linkspan.runtimes.docker.proxy import Proxy
from linkspan.runtimes.docker.runtime import DockerRuntime, DockerRuntimeSettings
from tests.prober import assert_no_failure
from tests.runtimes.harness import DockerHarness, Harness
from tests.runtimes.releases import outcomes, quiet, rollout, version_of
from tests.runtimes.test_conformance import version
from tests.services.engine import ImageOf, build_image
from tests.services.registry import RunningRegistry
from tests.test_engine import push
from tests.waiting import until


@pytest.fixture
def harness(docker_client: docker.DockerClient) -> Harness:
    """Docker's alone: what is here is about nothing else."""
    return DockerHarness(docker_client)


@pytest.fixture
def runtime(docker_client: docker.DockerClient) -> DockerRuntime:
    return DockerRuntime(docker_client, DockerRuntimeSettings())


@pytest.fixture
def proxy(docker_client: docker.DockerClient, service: Service) -> Proxy:
    return Proxy(docker_client, service, lambda: nginx_image(docker_client, "", "", say=quiet))


def test_containers_can_do_nothing_but_serve(
    runtime: DockerRuntime, docker_client: docker.DockerClient, service: Service, image_of: ImageOf
) -> None:
    plan = rollout(service, "v1", image_of("v1"), env={"GREETING": "hello"})
    runtime.roll_out(plan, say=quiet)
    replica = docker_client.containers.get(f"linkspan-{service}-r1-0")
    for container in (replica, docker_client.containers.get(f"linkspan-{service}")):
        host = container.attrs["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert host["LogConfig"]["Config"]["max-size"] == "10m"
        assert container.attrs["Config"]["User"] in {"1000", "65534:65534"}
    assert replica.attrs["HostConfig"]["Memory"] == 64 << 20
    assert "GREETING=hello" in replica.attrs["Config"]["Env"]
    assert replica.ports == {}, "only the proxy is reached from outside"
    assert replica.labels["dev.linkspan.release"] == plan.release.image
    assert replica.labels["dev.linkspan.revision"] == "1"


@pytest.mark.parametrize("replicas", [1, 2])
def test_slow_requests_disturb_no_others(
    runtime: DockerRuntime, service: Service, image_of: ImageOf, replicas: int
) -> None:
    """On all replicas at once: nginx leaves one that did not answer in time alone for a second."""
    plan = rollout(service, "v1", image_of("v1"), request_seconds=20.0, replicas=replicas)
    runtime.roll_out(plan, say=quiet)
    url = runtime.url(service)
    with Prober(f"{url}/", version_of) as prober, ThreadPoolExecutor(4) as pool:
        slow = pool.map(lambda _: httpx.get(f"{url}/slow/600", timeout=600, trust_env=False), range(4))
        assert {answer.status_code for answer in slow} == {504}
    assert_no_failure(prober.report)


def test_a_path_is_asked_for_as_it_is(
    runtime: DockerRuntime, service: Service, proxy: Proxy, image_of: ImageOf
) -> None:
    """curl takes braces and brackets for patterns, and an app may answer with anything."""
    runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    live = proxy.live()
    assert live
    for path in ("/readyz?a={1,2}", "/readyz?a=[1-3]"):
        assert [probe.status for probe in proxy.probe(live.addresses, live.port, path)] == [200, 200]


def test_the_machine_restarts(
    runtime: DockerRuntime, docker_client: docker.DockerClient, service: Service, image_of: ImageOf
) -> None:
    runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    url = runtime.url(service)
    names = [f"linkspan-{service}", f"linkspan-{service}-r1-0", f"linkspan-{service}-r1-1"]
    for name in names:
        docker_client.containers.get(name).kill()
    assert runtime.drift(service, 2)
    for name in (names[0], names[2], names[1]):  # the engine keeps no order either
        docker_client.containers.get(name).start()
    until(lambda: not runtime.drift(service, 2))
    assert runtime.url(service) == url
    assert version(runtime, service) == "v1"


def test_an_app_that_crashes_later_is_restarted(
    runtime: DockerRuntime, docker_client: docker.DockerClient, service: Service, image_of: ImageOf
) -> None:
    runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    victim = docker_client.containers.get(f"linkspan-{service}-r1-1")
    with Prober(f"{runtime.url(service)}/", version_of) as prober:
        # Its own process dies; nobody tells the engine to stop it.
        subprocess.run(["kill", "-9", str(victim.attrs["State"]["Pid"])], check=True)
        until(lambda: docker_client.containers.get(str(victim.id)).attrs["RestartCount"] == 1)
        until(lambda: not runtime.drift(service, 2))
        until(lambda: prober.report.total > 10)
    assert len(prober.report.failures) <= 1, "only a request that it had already taken is lost with it"


@pytest.mark.parametrize("signal", ["KILL", "TERM"])  # its workers outlive the one and not the other
@pytest.mark.parametrize("next_version", ["v1", "v2"])
def test_a_switch_that_died_is_started_again(
    *,
    runtime: DockerRuntime,
    docker_client: docker.DockerClient,
    proxy: Proxy,
    service: Service,
    image_of: ImageOf,
    signal: str,
    next_version: str,
) -> None:
    plan = rollout(service, "v1", image_of("v1"), replicas=1)
    runtime.roll_out(plan, say=quiet)
    container = docker_client.containers.get(f"linkspan-{service}")
    edge = container.attrs["State"]["StartedAt"]
    master = proxy._run("cat /run/linkspan/switch.pid")[1].strip()
    proxy._must(f"kill -{signal} {master}")
    until(lambda: proxy._run(f"grep -qs nginx /proc/{master}/cmdline")[0] != 0)
    assert runtime.drift(service, 1)
    following = rollout(service, next_version, image_of(next_version), replicas=1, expect=1)
    said: list[str] = []
    with Prober(f"{runtime.url(service)}/", version_of) as prober:
        runtime.roll_out(following, say=said.append)
    assert "nginx in the proxy had ended and was started again" in said
    if signal == "KILL":
        assert_no_failure(prober.report)
    until(lambda: not runtime.drift(service, 1))
    assert version(runtime, service) == next_version
    container.reload()
    assert container.attrs["State"]["StartedAt"] == edge, "nobody's connection was cut"
    # Two masters with two workers each: what outlived its master has gone, and the new one takes orders.
    until(lambda: proxy._run("grep -l '^nginx: ' /proc/[0-9]*/cmdline | wc -l")[1].strip() == "6")
    proxy.switch(proxy.live())


def test_nginx_that_was_told_but_did_not_reload_is_told_again(
    runtime: DockerRuntime, proxy: Proxy, service: Service, image_of: ImageOf
) -> None:
    plan = rollout(service, "v1", image_of("v1"))
    runtime.roll_out(plan, say=quiet)
    live = proxy.live()
    assert live is not None
    # As a kill between the rename and the reload leaves it.
    told = live.model_copy(update={"request_seconds": 6.0})
    proxy._must(f"mv $1/live.conf {STATE}/live.conf", proxy._put({"live.conf": switch_conf(told).encode()}))
    assert proxy.live() == told
    assert runtime.drift(service, 2)
    with Prober(f"{runtime.url(service)}/", version_of) as prober:
        runtime.roll_out(plan.model_copy(update={"expect": 1}), say=quiet)
    assert_no_failure(prober.report)
    assert not runtime.drift(service, 2)


def test_a_configuration_that_nginx_refuses_changes_nothing(
    runtime: DockerRuntime, proxy: Proxy, service: Service, image_of: ImageOf
) -> None:
    runtime.roll_out(rollout(service, "v1", image_of("v1")), say=quiet)
    live = proxy.live()
    assert live is not None
    with pytest.raises(RolloutFailed, match=r"nginx refuses its new configuration .*invalid parameter"):
        proxy.switch(live.model_copy(update={"addresses": ("not an address",)}))
    assert proxy.live() == live
    assert not runtime.drift(service, 2)


def test_only_the_newest_revisions_are_kept(
    runtime: DockerRuntime, proxy: Proxy, service: Service, image_of: ImageOf
) -> None:
    first = runtime.roll_out(rollout(service, "v1", image_of("v1"), replicas=1), say=quiet)
    made: list[Revision] = [
        first.model_copy(update={"number": number}).with_outcome("failed", "no") for number in range(2, 60)
    ]
    folder = proxy._put({f"{each.number:06}.json": each.model_dump_json().encode() for each in made})
    proxy._must(f"mv $1/* {STATE}/revisions", folder)
    assert len(runtime.history(service)) == KEEP
    proxy.remember(made[-1])
    assert len(proxy._read(f"{STATE}/revisions")) == KEEP
    assert not proxy._read("/linkspan/next/" + folder.rpartition("/")[2])
    assert runtime.history(service)[0].number == 59
    assert runtime.live(service) == first
    plan = rollout(service, "v2", image_of("v2"), replicas=1, expect=1)
    assert runtime.roll_out(plan, say=quiet).number == 60
    assert outcomes(runtime.history(service))[0] == (60, "v2", "live")


def test_a_port_that_was_asked_for(
    docker_client: docker.DockerClient, service: Service, image_of: ImageOf
) -> None:
    port = free_port()
    runtime = DockerRuntime(docker_client, DockerRuntimeSettings(port=port))
    plan = rollout(service, "v1", image_of("v1"), replicas=1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(RolloutFailed, match=f"port {port} on 127.0.0.1.*is taken.*Stop what listens"):
            runtime.roll_out(plan, say=quiet)
    runtime.roll_out(plan, say=quiet)
    assert runtime.url(service) == f"http://127.0.0.1:{port}"
    assert version(runtime, service) == "v1"
    other = DockerRuntime(docker_client, DockerRuntimeSettings(port=free_port()))
    said: list[str] = []
    other.roll_out(plan.model_copy(update={"expect": 1}), say=said.append)
    assert any("replacing the proxy" in line for line in said)
    assert other.url(service) != runtime.url(service)
    assert version(other, service) == "v1"


def test_names_that_would_mix_are_refused(
    runtime: DockerRuntime, service: Service, image_of: ImageOf
) -> None:
    one = Service(app=f"{service.app}-a", environment="b")
    other = Service(app=service.app, environment="a-b")
    assert str(one) == str(other)
    try:
        runtime.roll_out(rollout(one, "v1", image_of("v1"), replicas=1), say=quiet)
        with pytest.raises(ConfigError, match="Give the app or the environment another name"):
            runtime.roll_out(rollout(other, "v2", image_of("v2"), replicas=1), say=quiet)
        with pytest.raises(ConfigError):
            runtime.destroy(other)
        assert version(runtime, one) == "v1"
    finally:
        runtime.destroy(one)


def test_pulled_by_digest_with_the_password_of_the_registry(
    docker_client: docker.DockerClient, service: Service, image_of: ImageOf, registry: RunningRegistry
) -> None:
    auth = {"username": registry.username, "password": registry.password}
    reference = push(docker_client, image_of("v1", "good"), f"{registry.host}/{service.app}", auth)
    plan = rollout(service, "v1", "sha256:" + reference.rsplit(":", 1)[1], replicas=1)
    plan = plan.model_copy(update={"image": reference})
    refused = DockerRuntime(docker_client, DockerRuntimeSettings(), auth | {"password": "wrong-s3cret"})
    with pytest.raises(RolloutFailed, match="Check the registry block's user name and password") as failed:
        refused.roll_out(plan, say=quiet)
    assert "s3cret" not in str(failed.value)
    assert refused.history(service) == []
    runtime = DockerRuntime(docker_client, DockerRuntimeSettings(), auth)
    said: list[str] = []
    try:
        runtime.roll_out(plan, say=said.append)
        assert version(runtime, service) == "v1"
    finally:
        runtime.destroy(service)
        docker_client.images.remove(reference)
    assert not any("s3cret" in line for line in said)


@pytest.fixture
def released(
    docker_client: docker.DockerClient, service: Service, image_of: ImageOf, registry: RunningRegistry
) -> Iterator[Callable[..., Rollout]]:
    """Make the rollout of a version from the registry: its image is called by digest, as a release's is."""
    auth = {"username": registry.username, "password": registry.password}
    made: dict[tuple[str, str], str] = {}

    def push_once(version: str, behaviour: str) -> str:
        lines = [f"FROM {image_of('v1', behaviour)}", f"ENV VERSION={version}", f"LABEL of={service.app}"]
        tag = f"{service.app}:{version}-{behaviour}"
        image = build_image(docker_client, {"Dockerfile": "\n".join(lines)}, tag=tag)
        reference = push(docker_client, image, f"{registry.host}/{service.app}", auth)
        docker_client.images.remove(tag)
        return reference

    def plan(of: Service, version: str, behaviour: str = "good", **options: Any) -> Rollout:
        if (version, behaviour) not in made:
            made[version, behaviour] = push_once(version, behaviour)
        reference = made[version, behaviour]
        wanted = rollout(of, version, "sha256:" + reference.rsplit(":", 1)[1], replicas=1, **options)
        return wanted.model_copy(update={"image": reference})

    yield plan
    for reference in made.values():
        with contextlib.suppress(ImageNotFound):
            docker_client.images.remove(reference, force=True)


def here(client: docker.DockerClient, *plans: Rollout) -> list[bool]:
    names = {name for image in client.api.images() for name in image["RepoDigests"] or ()}
    return [plan.image in names for plan in plans]


def test_images_of_older_releases_are_removed(
    docker_client: docker.DockerClient,
    service: Service,
    registry: RunningRegistry,
    released: Callable[..., Rollout],
) -> None:
    auth = {"username": registry.username, "password": registry.password}
    runtime = DockerRuntime(docker_client, DockerRuntimeSettings(keep=2), auth)
    staging = Service(app=service.app, environment="staging")
    one, bad = released(service, "v1"), released(service, "v2", "exits", expect=1)
    two, three = released(service, "v2", expect=1), released(service, "v3", expect=3)
    said: list[str] = []
    try:
        runtime.roll_out(released(staging, "v1"), say=quiet)
        runtime.roll_out(one, say=said.append)
        with pytest.raises(RolloutFailed):
            runtime.roll_out(bad, say=said.append)
        assert here(docker_client, one, bad) == [True, True], "a failed rollout removes nothing"
        runtime.roll_out(two, say=said.append)
        assert here(docker_client, one, bad, two) == [True, False, True]
        runtime.roll_out(three, say=said.append)
        assert here(docker_client, one, two, three) == [True, True, True], "staging has the first"
    finally:
        runtime.destroy(staging)
    again = three.model_copy(update={"expect": 4})
    runtime.roll_out(again, say=said.append)  # what is live is repaired; what staging had can go now
    assert here(docker_client, one, two, three) == [False, True, True]
    back = runtime.roll_out(one.model_copy(update={"expect": 4}), say=said.append)
    assert back.number == 5
    assert version(runtime, service) == "v1"
    assert here(docker_client, one, two, three) == [True, False, True]
    assert sum("removing images of older releases" in line for line in said) == 3


def test_an_image_that_cannot_be_removed_fails_nothing(
    docker_client: docker.DockerClient,
    service: Service,
    registry: RunningRegistry,
    released: Callable[..., Rollout],
) -> None:
    auth = {"username": registry.username, "password": registry.password}
    runtime = DockerRuntime(docker_client, DockerRuntimeSettings(keep=1), auth)
    one, two, three = (released(service, f"v{n}", expect=n - 1) for n in (1, 2, 3))
    runtime.roll_out(one, say=quiet)
    other = docker_client.containers.create(one.image, "true")
    said: list[str] = []
    try:
        runtime.roll_out(two, say=said.append)
        assert any(one.image in line and "stays on the engine: " in line for line in said)
        assert here(docker_client, one, two) == [True, True]
    finally:
        other.remove(force=True)
    runtime.roll_out(three, say=said.append)
    assert here(docker_client, one, two, three) == [False, False, True]


@pytest.fixture
def lost() -> Iterator[DockerRuntime]:
    client = docker.DockerClient(base_url=f"tcp://127.0.0.1:{free_port()}", version="1.41")
    yield DockerRuntime(client, DockerRuntimeSettings())
    client.close()


def test_an_engine_that_is_gone(lost: DockerRuntime, image_of: ImageOf) -> None:
    service = Service(app="nobody", environment="nowhere")
    for call in (
        lambda: lost.live(service),
        lambda: lost.history(service),
        lambda: not lost.drift(service, 1),
        lambda: lost.url(service),
        lambda: lost.roll_out(rollout(service, "v1", image_of("v1")), say=quiet),
        lambda: lost.destroy(service),
    ):
        with pytest.raises(RuntimeUnavailable):
            call()
