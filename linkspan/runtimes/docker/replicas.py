"""The replicas of one revision: started, watched, restored and removed."""

import re
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.types import Mount

from linkspan.engine import engine_time, killed_for_memory
from linkspan.errors import RolloutFailed
from linkspan.progress import Say
from linkspan.runtimes.base import Rollout, Service
from linkspan.runtimes.docker import plan
from linkspan.runtimes.docker.nginx import Live
from linkspan.runtimes.docker.proxy import Proxy
from linkspan.runtimes.readiness import LOG_LINES, Observed, Probe, Readiness, readiness

# Typed by hand: the type's own name is private to docker's stubs.
_ALWAYS: Any = {"Name": "unless-stopped", "MaximumRetryCount": 0}
T = TypeVar("T")
_POLL_SECONDS = 0.1
_LOOKS = 5
"""In a row, before the engine is asked again whether all still run."""
_SAY_SECONDS = 10.0
_CHECK_SECONDS = 30.0
"""How long who was ready may fail to answer in a rollout: on a busy machine an app stands still at times."""
_STEADY_LOOKS, _STEADY_SECONDS = 3, 1.0
_STOP_SECONDS = 5
"""What an app gets to end after SIGTERM; no request is left by then."""


class Replicas:
    """The containers of `live` on the engine; None has none. Calls may raise docker's APIError."""

    def __init__(
        self, client: docker.DockerClient, proxy: Proxy, service: Service, live: Live | None
    ) -> None:
        self._client = client
        self._proxy = proxy
        self._service = service
        self._live = live
        self._addresses = (
            {
                plan.replica_name(service, live.revision.number, index): address
                for index, address in enumerate(live.addresses)
            }
            if live is not None
            else {}
        )

    # Watching

    def observe(self, *, looks: int = 0) -> list[Observed]:
        """All of them, as the engine and a readiness request see them, the latter after some `looks`."""
        if self._live is None:
            return []
        found = {name: self._get(name) for name in self._addresses}
        running = [name for name, container in found.items() if _status(container) == "running"]
        probes = dict(
            zip(
                running,
                self._proxy.probe(
                    [self._addresses[name] for name in running],
                    self._live.port,
                    self._live.ready_path,
                    looks=looks,
                )
                if running
                else [],
                strict=True,
            )
        )
        return [observed(name, container, probes.get(name)) for name, container in found.items()]

    def verdicts(self, *, looks: int = 0) -> list[Readiness]:
        path = self._live.ready_path if self._live else ""
        return [readiness(seen, path) for seen in self.observe(looks=looks)]

    def steady(self) -> list[Readiness]:
        """The verdicts of several looks: one answer that is late or bad is no broken replica."""
        for _ in range(_STEADY_LOOKS - 1):
            found = self.verdicts()
            if all(verdict.done or not verdict.retriable for verdict in found):
                return found
            time.sleep(_STEADY_SECONDS)
        return self.verdicts()

    def check(self) -> None:
        """Raise RolloutFailed unless all are ready, or soon again, and none ended since it was started."""
        self._wait(seconds=_CHECK_SECONDS, say=lambda _: None)
        for name in self._addresses:
            container = self._get(name)
            if container is not None and container.attrs["RestartCount"]:
                raise RolloutFailed(f"{name} was ready, then ended, and the engine started it again")

    def wait(self, *, seconds: float, settle: float, say: Say) -> None:
        """Return when all are ready, and still are after `settle` seconds.

        Raises RolloutFailed with the reason: at once if waiting cannot help, else after `seconds`.
        """
        self._wait(seconds=seconds, say=say)
        if settle:
            time.sleep(settle)
            self.check()

    def _wait(self, *, seconds: float, say: Say) -> None:
        start = spoke = time.monotonic()
        while True:
            open_ = [verdict for verdict in self.verdicts(looks=_LOOKS) if not verdict.done]
            if not open_:
                return
            worst = next((verdict for verdict in open_ if not verdict.retriable), open_[0])
            if not worst.retriable:
                raise RolloutFailed(worst.reason)
            now = time.monotonic()
            if now - start > seconds:
                raise RolloutFailed(f"not ready after {seconds:g} s: {worst.reason}")
            if now - spoke > _SAY_SECONDS:
                say(f"still waiting: {worst.reason}")
                spoke = now
            time.sleep(_POLL_SECONDS)

    # Making

    def start(
        self, rollout: Rollout, image: str, mounts: list[Mount], names: Iterable[str] | None = None
    ) -> None:
        """Create and start them, or only those named, with `mounts` (models.py)."""
        if self._live is None:
            return
        self._proxy.subnet()  # made anew if somebody removed it
        wanted = [
            (index, address)
            for index, (name, address) in enumerate(self._addresses.items())
            if names is None or name in names
        ]
        _at_once(lambda each: self._start(rollout, image, mounts, *each), wanted)

    def _start(self, rollout: Rollout, image: str, mounts: list[Mount], index: int, address: str) -> None:
        assert self._live is not None  # noqa: S101 - who has replicas has it
        endpoint = self._client.api.create_endpoint_config(ipv4_address=address)
        options = plan.replica_options(rollout, self._live.revision.number, index)
        self._client.containers.create(
            image,
            network=self._proxy.name,
            networking_config={self._proxy.name: endpoint},
            mounts=mounts,
            **options,
        ).start()

    def clear_broken(self, rollout: Rollout) -> list[str]:
        """Remove what has ended or had its time to become ready; the names of that and of what is missing."""
        broken = []
        for seen in self.observe():
            container = self._get(seen.name)
            if not readiness(seen, rollout.ready_path).done and (
                container is None
                or seen.state != "running"
                or _age(self._client, container) > rollout.ready_seconds
            ):
                broken.append(seen.name)
                if container is not None:
                    _remove(container)
        return broken

    def keep(self) -> None:
        """From now on the engine restarts them. Before they were ready, an exit had to stay visible."""
        _at_once(self._keep, self._addresses)

    def _keep(self, name: str) -> None:
        container = self._get(name)
        if container is not None and _policy(container) != "unless-stopped":
            self._client.api.update_container(name, restart_policy=_ALWAYS)

    # Removing

    def others(self) -> list[Container]:
        """What is there of the service, but neither one of these nor its proxy."""
        found = [
            container
            for role in ("replica", "reader")
            for container in self._client.containers.list(
                all=True, filters=plan.label_filter(self._service, role), ignore_removed=True
            )
        ]
        return [container for container in found if container.name not in self._addresses]

    def remove(self) -> None:
        """Stop and remove these."""
        _remove_all([container for name in self._addresses if (container := self._get(name))])

    def remove_others(self) -> None:
        """Stop and remove all but these."""
        _remove_all(self.others())

    def _get(self, name: str) -> Container | None:
        try:
            return self._client.containers.get(name)
        except NotFound:
            return None


def revision_of(client: docker.DockerClient, service: Service, replica: str) -> int | None:
    """The revision of a replica by its name, also when it has gone, or by its container's ID."""
    if named := re.fullmatch(rf"{re.escape(plan.name_of(service))}-r([0-9]+)-[0-9]+", replica):
        return int(named[1])
    try:
        labels = client.containers.get(replica).labels
    except NotFound:
        return None
    ours = plan.labels(service, "replica").items() <= labels.items()
    return int(labels[plan.REVISION]) if ours else None


def _status(container: Container | None) -> str:
    return container.status if container is not None else "missing"


def observed(name: str, container: Container | None, probe: Probe | None) -> Observed:
    """What `readiness` judges: the container as the engine just described it, and what a probe found."""
    if container is None:
        return Observed(name=name, state="missing")
    state = container.attrs["State"]
    limit = int(container.attrs["HostConfig"].get("Memory") or 0)
    running = container.status == "running"
    return Observed(
        name=name,
        state=container.status,
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=not running and killed_for_memory(container),
        memory=f"{limit // (1 << 20)} MiB" if limit else "",
        error=str(state.get("Error") or ""),
        logs="" if running else container.logs(tail=LOG_LINES).decode(errors="replace"),
        probe=probe,
    )


def _policy(container: Container) -> str:
    return str((container.attrs["HostConfig"].get("RestartPolicy") or {}).get("Name", ""))


def _age(client: docker.DockerClient, container: Container) -> float:
    """Seconds since it was started, by the engine's clock."""
    started = datetime.fromisoformat(container.attrs["State"]["StartedAt"])
    return (engine_time(client) - started).total_seconds()


def _remove_all(containers: list[Container]) -> None:
    _at_once(_remove, containers)  # apps that do not heed SIGTERM each take their whole time


def _at_once(do: Callable[[T], None], each: Collection[T]) -> None:
    """Do it with each, beside each other: what the engine does with a container is mostly waiting."""
    if each:
        with ThreadPoolExecutor(min(8, len(each))) as pool:
            list(pool.map(do, each))


def _remove(container: Container) -> None:
    try:
        container.stop(timeout=_STOP_SECONDS)
        container.remove(force=True, v=True)
    except NotFound:
        return  # somebody else did
    except APIError as error:
        if error.status_code != 409:  # its removal is already in progress
            raise
