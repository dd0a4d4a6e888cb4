"""Volumes of mounted models: whole or absent, filled once, and removed when nothing kept mounts them."""

import contextlib
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator

import docker
import pytest
from docker.errors import APIError, ImageNotFound, NotFound
from docker.models.containers import Container

from linkspan.config import SmokeSection
from linkspan.errors import RegistryError, RegistryNotFound, RuntimeUnavailable
from linkspan.nouns import Mount, Revision
from linkspan.release.smoke import smoke
from linkspan.runtimes.base import Service
from linkspan.runtimes.docker import models
from linkspan.runtimes.docker.images import kept, kept_models
from linkspan.runtimes.docker.models import mounted, remove_models, superfluous_models, volume_of
from linkspan.runtimes.docker.runtime import DockerRuntime, DockerRuntimeSettings
from tests.runtimes.conftest import MODEL, Mounting
from tests.runtimes.releases import quiet, rollout
from tests.services.engine import ImageOf
from tests.services.registry import RunningRegistry
from tests.values import release, revision
from tests.waiting import until

WEIGHTS = b"weights" * 100_000


@pytest.fixture
def auth(registry: RunningRegistry) -> dict[str, str]:
    return {"username": registry.username, "password": registry.password}


@pytest.fixture
def app(docker_client: docker.DockerClient) -> Iterator[str]:
    name = f"t{uuid.uuid4().hex[:8]}"
    yield name
    remove_models(docker_client, name, keep=(), say=quiet)
    assert volumes(docker_client, name) == []


@pytest.fixture
def mount(app: str, mounting: Mounting) -> Mount:
    return mount_of(app, mounting, "v1")


def mount_of(app: str, mounting: Mounting, version: str, files: dict[str, bytes] | None = None) -> Mount:
    service = Service(app=app, environment="production")
    plan = mounting(rollout(service, version, f"sha256:{'a' * 64}"), files or {"weights": WEIGHTS})
    assert plan.mount is not None
    return plan.mount


@pytest.fixture
def reading(
    docker_client: docker.DockerClient, app: str, auth: dict[str, str], image_of: ImageOf
) -> Iterator[Callable[..., Container]]:
    """Run a command in a container that has the mount; it is removed at the end."""
    made: list[Container] = []

    def run(mount: Mount, command: str, said: list[str] | None = None) -> Container:
        say = said.append if said is not None else quiet
        with mounted(docker_client, app, mount, auth, say=say) as mounts:
            made.append(
                docker_client.containers.create(
                    image_of("v1"), ["sh", "-c", command], mounts=mounts, network_mode="none"
                )
            )
        made[-1].start()
        return made[-1]

    yield run
    for container in made:
        with contextlib.suppress(NotFound):  # the test did
            container.remove(force=True)


def volumes(client: docker.DockerClient, app: str) -> list[str]:
    found = client.volumes.list(filters={"label": f"dev.linkspan.app={app}"})
    return sorted(str(volume.name) for volume in found)


def output(container: Container) -> str:
    container.wait(timeout=600)
    return str(container.logs().decode()).strip()


def here(client: docker.DockerClient, reference: str) -> bool:
    try:
        client.images.get(reference)
    except ImageNotFound:
        return False
    return True


COUNT = f"cat {MODEL}/weights | wc -c"


def test_it_is_filled_once_and_only_the_newest_ones_image_stays(
    docker_client: docker.DockerClient,
    app: str,
    mounting: Mounting,
    mount: Mount,
    reading: Callable[..., Container],
) -> None:
    said: list[str] = []
    assert output(reading(mount, COUNT, said)) == str(len(WEIGHTS))
    assert [line for line in said if "filling volume" in line], said
    again: list[str] = []
    assert output(reading(mount, COUNT, again)) == str(len(WEIGHTS))
    assert again == []
    name = volume_of(app, mount)
    assert volumes(docker_client, app) == [name, f"{name}.whole"]
    assert here(docker_client, mount.image)
    newer = mount_of(app, mounting, "v2", {"weights": b"2"})
    output(reading(newer, "true"))
    assert (here(docker_client, mount.image), here(docker_client, newer.image)) == (False, True)


def test_what_is_half_full_is_filled_anew(
    docker_client: docker.DockerClient, app: str, mount: Mount, reading: Callable[..., Container]
) -> None:
    """Killed while the engine copied: volume and container are there, and nothing says that it is whole."""
    name = volume_of(app, mount)
    half = reading(mount, "true")
    output(half)
    half.remove(force=True)
    docker_client.volumes.get(f"{name}.whole").remove()
    writer = docker_client.containers.create(
        half.attrs["Config"]["Image"],
        ["sh", "-c", f"echo half > {MODEL}/weights"],
        user="0",
        network_mode="none",
        name=f"{name}.filler",
        volumes={name: {"bind": MODEL, "mode": "rw"}},
    )
    writer.start()
    output(writer)
    assert output(reading(mount, COUNT)) == str(len(WEIGHTS))


def test_a_volume_that_somebody_removed_is_filled_again(
    docker_client: docker.DockerClient, app: str, mount: Mount, reading: Callable[..., Container]
) -> None:
    used = reading(mount, "true")
    output(used)
    used.remove(force=True)
    docker_client.volumes.get(volume_of(app, mount)).remove()
    assert output(reading(mount, COUNT)) == str(len(WEIGHTS))


def test_what_a_container_has_is_whole_though_the_word_of_it_was_lost(
    docker_client: docker.DockerClient, app: str, mount: Mount, reading: Callable[..., Container]
) -> None:
    """As after `docker volume prune`, which leaves only what is in use."""
    name = volume_of(app, mount)
    user = reading(mount, "sleep 3600")
    docker_client.volumes.get(f"{name}.whole").remove()
    assert output(reading(mount, COUNT)) == str(len(WEIGHTS))
    user.reload()
    assert user.status == "running"
    assert volumes(docker_client, app) == [name, f"{name}.whole"]


@pytest.mark.parametrize("moment", ["it begins to copy", "it has copied"])
def test_a_process_that_is_killed_while_it_fills(
    *,
    docker_client: docker.DockerClient,
    app: str,
    mounting: Mounting,
    auth: dict[str, str],
    reading: Callable[..., Container],
    moment: str,
) -> None:
    """The engine goes on copying; until it is done nobody takes the volume for whole."""
    files = {f"part-{number}": WEIGHTS * 40 for number in range(4)}
    mount = mount_of(app, mounting, "v1", {**files, "weights": WEIGHTS})
    program = f"""
import os, signal, sys, threading, time
from linkspan.engine import engine
from linkspan.nouns import Mount
from linkspan.runtimes.docker import models
copy = models._copy
def killed(client, *args):
    if {moment!r} == "it begins to copy":
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
        copy(client, *args)
        time.sleep(600)
    copy(client, *args)
    os.kill(os.getpid(), signal.SIGKILL)
models._copy = killed
mount = Mount.model_validate_json({mount.model_dump_json()!r})
with models.mounted(engine(), {app!r}, mount, {auth!r}, say=print):
    pass
"""
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=600
    )
    assert child.returncode == -9, child.stderr
    assert volumes(docker_client, app) == [volume_of(app, mount)]
    count = f"cat {MODEL}/* | wc -c"
    made: list[Container] = []

    def filled() -> bool:
        try:
            made.append(reading(mount, count))
        except RuntimeUnavailable:  # the engine is still at it
            return False
        return True

    until(filled, what="a volume that is whole")
    assert output(made[0]) == str(len(WEIGHTS) * (4 * 40 + 1))


def test_a_volume_that_the_engine_made_by_itself_is_never_whole(
    docker_client: docker.DockerClient, mount: Mount, app: str, image_of: ImageOf, auth: dict[str, str]
) -> None:
    """As it does for a container whose volume somebody pruned just before: an empty one of that name."""
    name = volume_of(app, mount)
    container = docker_client.containers.create(
        image_of("v1"), network_mode="none", volumes={name: {"bind": MODEL, "mode": "ro"}}
    )
    try:
        with (
            pytest.raises(RuntimeUnavailable, match="is being filled by somebody else"),
            mounted(docker_client, app, mount, auth, say=quiet),
        ):
            pass
    finally:
        container.remove(force=True)
    with mounted(docker_client, app, mount, auth, say=quiet):
        assert volumes(docker_client, app) == [name, f"{name}.whole"]


def test_a_model_that_cannot_be_pulled_leaves_no_volume(
    docker_client: docker.DockerClient, app: str, mount: Mount, auth: dict[str, str]
) -> None:
    gone = mount.model_copy(update={"image": mount.image.rpartition("@")[0] + f"@sha256:{'0' * 64}"})
    with pytest.raises(RegistryNotFound), mounted(docker_client, app, gone, auth, say=quiet):
        pass
    assert volumes(docker_client, app) == []


def test_a_copy_that_fails_leaves_neither_volume_nor_image(
    docker_client: docker.DockerClient,
    app: str,
    mount: Mount,
    auth: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise APIError("500", explanation="write /var/lib/docker/volumes/x: no space left on device")

    monkeypatch.setattr(models, "_copy", full)
    with (
        pytest.raises(RegistryError, match="the engine's disk is full"),
        mounted(docker_client, app, mount, auth, say=quiet),
    ):
        pass
    assert volumes(docker_client, app) == []
    assert not here(docker_client, mount.image)


def test_who_cleans_up_does_not_wait_for_who_fills(
    docker_client: docker.DockerClient, app: str, mount: Mount, auth: dict[str, str]
) -> None:
    said: list[str] = []
    with mounted(docker_client, app, mount, auth, say=quiet):
        remove_models(docker_client, app, keep=(), say=said.append)
    assert said == ["a model is being fetched: the next rollout removes those of older releases"]
    assert len(volumes(docker_client, app)) == 2


def test_only_what_no_container_has_is_removed(
    docker_client: docker.DockerClient, app: str, mounting: Mounting, reading: Callable[..., Container]
) -> None:
    one, two, three = (
        mount_of(app, mounting, version, {"weights": version.encode()}) for version in ("v1", "v2", "v3")
    )
    reading(one, "sleep 3600")
    for other in (two, three):
        done = reading(other, "true")
        output(done)
        done.remove(force=True)
    assert superfluous_models(docker_client, app, [three.content]) == {
        volume_of(app, each): each.image for each in (one, two)
    }
    said: list[str] = []
    remove_models(docker_client, app, keep=[three.content], say=said.append)
    assert [line for line in said if "removed" in line] == [
        f"removed volume {volume_of(app, two)}: no release that is kept mounts it"
    ]
    left = [volume_of(app, each) for each in (one, three)]
    assert volumes(docker_client, app) == sorted([*left, *(f"{name}.whole" for name in left)])


def test_rollouts_keep_the_models_of_the_releases_that_they_keep(
    docker_client: docker.DockerClient,
    app: str,
    auth: dict[str, str],
    image_of: ImageOf,
    mounting: Mounting,
) -> None:
    runtime = DockerRuntime(docker_client, DockerRuntimeSettings(keep=2), auth)
    service, staging = (Service(app=app, environment=name) for name in ("production", "staging"))
    names: dict[str, str] = {}

    def release_to(where: Service, version: str, expect: int = 0) -> None:
        plan = rollout(where, version, image_of(version), replicas=1, expect=expect)
        plan = mounting(plan, {"weights": version.encode()})
        assert plan.mount is not None
        names[volume_of(app, plan.mount)] = version
        runtime.roll_out(plan, say=quiet)

    def there() -> list[str]:
        """The versions whose models are there."""
        return sorted(names[name] for name in volumes(docker_client, app) if name in names)

    with contextlib.ExitStack() as stack:
        stack.callback(runtime.destroy, service)
        stack.callback(runtime.destroy, staging)
        release_to(staging, "v1")
        for number, version in enumerate(("v1", "v2", "v3", "v4")):
            release_to(service, version, number)
        assert there() == ["v1", "v3", "v4"], "staging has the first"
        runtime.destroy(staging)
        assert there() == ["v1", "v3", "v4"], "the next rollout looks"
        release_to(service, "v3", 4)
        assert there() == ["v3", "v4"]
    assert volumes(docker_client, app) == []


def test_a_machine_that_only_tests_keeps_the_newest(
    docker_client: docker.DockerClient, app: str, auth: dict[str, str], image_of: ImageOf, mounting: Mounting
) -> None:
    """The smoke test runs with the model that the release will mount."""
    runtime, service = DockerRuntimeSettings().open(auth), Service(app=app, environment="production")
    for version in ("v1", "v2"):
        mount = mount_of(app, mounting, version, {"weights": version.encode()})
        plan = rollout(service, version, image_of("v1")).model_copy(update={"mount": mount})
        assert smoke(runtime, plan, SmokeSection(path=f"/file{MODEL}/weights"), say=quiet).status == 200
        name = volume_of(app, mount)
        assert volumes(docker_client, app) == [name, f"{name}.whole"]


def test_models_are_kept_with_their_releases() -> None:
    def of(number: int, version: str, outcome: str = "replaced") -> Revision:
        made = release(number, version).model_copy(update={"image": f"sha256:{number:064x}"})
        return revision(number, made).model_copy(update={"outcome": outcome})

    mine = [of(4, "v4", "live"), of(3, "v3", "failed"), of(2, "v2"), of(1, "v1")]
    other = [of(1, "v1", "live")]
    assert list(kept(mine, 2)) == [mine[0].release.image, mine[2].release.image]
    assert kept_models([mine, other], keep=2) == {
        each.release.model.digest for each in (mine[0], mine[2], mine[3])
    }
