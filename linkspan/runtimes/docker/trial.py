"""An image run by itself on the engine, apart from any service, to be asked before it becomes a release.

It has no network but the way in from this machine's loopback. What fails does not stay on the engine.
"""

import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import docker
import httpx
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.types import Mount as DockerMount

from linkspan.engine import engine_time, pull, reaching
from linkspan.errors import RuntimeUnavailable, SmokeFailed
from linkspan.progress import Say
from linkspan.runtimes.asking import ask, probe
from linkspan.runtimes.base import TRIED, Later, Rollout
from linkspan.runtimes.docker.images import keep_newest_model, remove_refused
from linkspan.runtimes.docker.lock import locked
from linkspan.runtimes.docker.models import mounted
from linkspan.runtimes.docker.plan import CONFINED, TMP
from linkspan.runtimes.docker.replicas import observed
from linkspan.runtimes.readiness import Readiness, readiness
from linkspan.tls import trusted

LABEL = "dev.linkspan.smoke"
NETWORK = "linkspan-smoke"
_LOG_LINES = 15
_BODY = 500


class DockerTrial(NamedTuple):
    """A Trial (linkspan/runtimes/base.py): a running container and the way to ask it."""

    app: str
    container: Container
    http: httpx.Client

    def verdict(self, ready_path: str) -> Readiness:
        self.container.reload()
        seen = probe(self.http, ready_path) if self.container.status == "running" else None
        return readiness(observed(self.app, self.container, seen), ready_path)

    def log(self) -> str:
        return self.container.logs(tail=_LOG_LINES).decode(errors="replace").strip()

    def ask(self, method: str, path: str, *, json: Any = None, seconds: float) -> httpx.Response:
        return ask(self.http, method, path, json=json, seconds=seconds)


@contextmanager
def trial(
    client: docker.DockerClient, rollout: Rollout, *, auth: Mapping[str, str] | None, say: Say, later: Later
) -> Iterator[DockerTrial]:
    """Pull the image, start it with what it mounts, and remove its container at the end.

    That is left to `later` if all went well. The image goes too if the block raises SmokeFailed. Raises that
    where the container cannot start, the errors of engine.pull, and RuntimeUnavailable.
    """
    image, app, mount = rollout.image, rollout.service.app, rollout.mount
    with reaching():
        say(f"pulling {image}")
        with ThreadPoolExecutor(1) as beside:
            swept = beside.submit(sweep, client)
            image_id = str(pull(client, image, auth, say=say).id)
            swept.result()
        try:
            with mounted(client, app, mount, auth, say=say) as mounts:
                running = _made(client, image_id, rollout, mounts)
            with _running(app, running, later) as container, _http(container, rollout.port) as http:
                yield DockerTrial(app, container, http)
        except SmokeFailed:
            remove_refused(client, image, say=say)
            raise
        if mount:
            keep_newest_model(client, app, mount.content, say=say)


def sweep(client: docker.DockerClient, *, label: str = LABEL, older_seconds: float = 3600) -> None:
    """Remove the containers of smoke tests that were killed: those older than an hour."""
    now = engine_time(client)
    for container in client.containers.list(all=True, filters={"label": label}, ignore_removed=True):
        created = datetime.fromisoformat(container.attrs["Created"])
        if (now - created).total_seconds() > older_seconds:
            _remove(container)


def _made(client: docker.DockerClient, image: str, rollout: Rollout, mounts: list[DockerMount]) -> Container:
    app, memory = rollout.service.app, rollout.memory
    limits: dict[str, Any] = {"mem_limit": memory, "memswap_limit": memory} if memory else {}
    try:
        _network(client)
        return client.containers.create(
            image,
            **CONFINED,
            **limits,
            tmpfs=TMP,
            mounts=mounts,
            name=f"linkspan-smoke-{app}-{uuid.uuid4().hex[:8]}",
            labels={LABEL: app},
            environment={**rollout.env, TRIED: "1"},
            network=NETWORK,
            ports={f"{rollout.port}/tcp": ("127.0.0.1", 0)},
        )
    except APIError as error:
        raise _refused(app, error) from None


@contextmanager
def _running(app: str, container: Container, later: Later) -> Iterator[Container]:
    try:
        try:
            container.start()
            container.reload()  # only now is its port known
        except APIError as error:
            raise _refused(app, error) from None
        yield container
    except BaseException:
        _remove(container)
        raise
    later(partial(_remove, container))


def _refused(app: str, error: APIError) -> SmokeFailed:
    return SmokeFailed(
        f"the image of {app} cannot be started",
        found=" ".join(str(error.explanation or error).split())[:_BODY],
    )


def _network(client: docker.DockerClient) -> None:
    """A bridge without a way out: what an untested image sends to the world is not answered."""
    if client.networks.list(names=[NETWORK]):
        return
    # Docker happily makes two networks of one name.
    with locked(NETWORK, seconds=30, say=lambda _: None):
        if not client.networks.list(names=[NETWORK]):
            client.networks.create(
                NETWORK,
                labels={LABEL: "network"},
                options={
                    "com.docker.network.bridge.enable_ip_masquerade": "false",
                    "com.docker.network.bridge.enable_icc": "false",
                },
            )


@contextmanager
def _http(container: Container, port: int) -> Iterator[httpx.Client]:
    bindings = (container.ports or {}).get(f"{port}/tcp")
    if not bindings:
        container.reload()
        if container.status == "running":
            raise RuntimeUnavailable(f"the Docker Engine gave {container.name} no port on this machine")
        bindings = [{"HostPort": "1"}]  # it ended at once; the first look at it says how
    base = f"http://127.0.0.1:{bindings[0]['HostPort']}"
    # No proxy of the environment may come between.
    with httpx.Client(
        base_url=base, trust_env=False, headers={"Connection": "close"}, verify=trusted()
    ) as http:
        yield http


def _remove(container: Container) -> None:
    try:
        container.remove(force=True, v=True)
    except NotFound:
        return  # somebody else's sweep
    except APIError as error:
        if error.status_code != 409:  # its removal is already in progress
            raise
