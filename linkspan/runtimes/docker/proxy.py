"""The proxy of a service: the container in which nginx runs, its network, and its volume.

The volume is the docker runtime's only memory: the switch's configuration, whose head is the live revision,
and a file per revision for the history. It is written through the proxy container, with renames.
"""

import re
import time
import uuid
from collections.abc import Callable, Iterable

import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.models.networks import Network
from docker.types import IPAMConfig, IPAMPool

from linkspan.engine import run_in
from linkspan.errors import ConfigError, ReleaseError, RolloutFailed, RuntimeUnavailable
from linkspan.nouns import Revision
from linkspan.processes import free_port
from linkspan.progress import Say
from linkspan.runtimes.base import Service
from linkspan.runtimes.docker import nginx, plan
from linkspan.runtimes.docker.files import PROBE, files_in, history_of, read_probes, tar_of
from linkspan.runtimes.docker.nginx import EDGE, STATE, Live, read_live, switch_conf, whole
from linkspan.runtimes.readiness import Probe, one_line

_START_SECONDS = 60.0


class Proxy:
    """The proxy container of one service. Calls may raise docker's APIError."""

    def __init__(self, client: docker.DockerClient, service: Service, image: Callable[[], str]) -> None:
        self._client = client
        self._service = service
        self._image = image
        self.name = plan.name_of(service)

    def container(self) -> Container | None:
        """The container, in whatever state. Raises ConfigError if it is another service's."""
        try:
            container = self._client.containers.get(self.name)
        except NotFound:
            return None
        self._refuse_others("container", container.labels)
        return container

    def _refuse_others(self, kind: str, labels: dict[str, str]) -> None:
        # `a-b` in `c` and `a` in `b-c` have the same names.
        app, environment = labels.get(plan.APP), labels.get(plan.ENVIRONMENT)
        if (app, environment) != (self._service.app, self._service.environment):
            raise ConfigError(
                f"the docker {kind} {self.name} belongs to something else",
                expected=f"app {self._service.app} in {self._service.environment}",
                found=f"app {app} in {environment}",
                fix="Give the app or the environment another name",
            )

    def published(self) -> tuple[str, int] | None:
        """The host address and port that were chosen once for this service; None if it was never there."""
        try:
            labels = self._client.volumes.get(self.name).attrs.get("Labels") or {}
        except NotFound:
            return None
        self._refuse_others("volume", labels)
        bind, _, port = str(labels[plan.PORT]).rpartition(":")
        return bind, int(port)

    # Reading

    def live(self) -> Live | None:
        """What the switch was told; also if the proxy is stopped or gone."""
        conf = self._read(f"{STATE}/live.conf").get("live.conf", b"").decode()
        return read_live(conf) if whole(conf) else None

    def history(self) -> tuple[Live | None, list[Revision]]:
        """What is live, and all revisions, newest first."""
        files = self._read(STATE)
        conf = files.pop("live.conf", b"").decode()
        live = read_live(conf) if whole(conf) else None
        kept = [
            Revision.model_validate_json(data)
            for name, data in files.items()
            if re.fullmatch(r"[0-9]+\.json", name)
        ]
        return live, history_of(live.revision if live else None, kept)

    def _read(self, path: str) -> dict[str, bytes]:
        container = self.container()
        if container is not None:
            return files_in(container, path)
        if self.published() is None:
            return {}
        # Somebody removed the proxy. A container that never runs can read the volume just as well.
        reader = self._client.containers.create(
            self._image(),
            command=["-"],
            labels=plan.labels(self._service, "reader"),
            volumes={self.name: {"bind": plan.VOLUME_PATH, "mode": "ro"}},
            network_mode="none",
        )
        try:
            return files_in(reader, path)
        finally:
            reader.remove(force=True)

    # Making

    def ensure(self, *, bind: str, port: int, say: Say) -> None:
        """Make what is missing, and have nginx running. `port` 0 is: the one chosen before, else any.

        Raises RolloutFailed if nginx does not start, or if the port is taken.
        """
        for last in (False, False, True):
            address = self._reserve(bind, port)
            container = self._current(*address, say=say)
            if container.status == "running":
                self._revive(container, say)
                return
            self._furnish(container)
            try:
                container.start()
            except APIError as error:
                if not re.search(r"already (allocated|in use)", str(error.explanation)):
                    raise
                container.remove(force=True)
                if port or last or self.history()[1]:
                    raise RolloutFailed(
                        f"port {address[1]} on {bind}, where {self._service} is reached, is taken",
                        fix="Stop what listens there, or set another port in the runtime block",
                    ) from None
                # It was free a moment ago, and nobody knows it yet: another will do.
                self._client.volumes.get(self.name).remove()
            else:
                self._wait_for_nginx(container)
                return

    def _reserve(self, bind: str, port: int) -> tuple[str, int]:
        known = self.published()
        if known is None:
            known = (bind, port or free_port())
            self._client.volumes.create(
                self.name, labels=plan.labels(self._service, "state", **{plan.PORT: f"{bind}:{known[1]}"})
            )
        # The volume remembers the port that was chosen; the settings may ask for another one later.
        return bind, port or known[1]

    def _current(self, bind: str, port: int, *, say: Say) -> Container:
        options = plan.proxy_options(self._service, bind, port)
        container = self.container()
        if container is not None:
            if container.labels.get(plan.PROXY) == options["labels"][plan.PROXY]:
                return container
            say(f"replacing the proxy, to answer at {bind}:{port}: it is away for a moment")
            container.remove(force=True)
        say("starting the proxy")
        subnet = self.subnet()
        return self._client.containers.create(
            self._image(),
            network=self.name,
            networking_config={
                self.name: self._client.api.create_endpoint_config(ipv4_address=plan.proxy_address(subnet))
            },
            **options,
        )

    def _furnish(self, container: Container) -> None:
        files: dict[str, bytes] = {"state/edge.conf": EDGE.encode()}
        if not whole(files_in(container, f"{STATE}/live.conf").get("live.conf", b"").decode()):
            files["state/live.conf"] = switch_conf(None).encode()
        folders = ("state", "state/revisions")
        container.put_archive(plan.VOLUME_PATH, tar_of(files, folders, plan.NOBODY_ID))

    def _wait_for_nginx(self, container: Container) -> None:
        end = time.monotonic() + _START_SECONDS
        while self._control(container) is None:
            container.reload()
            if container.status != "running" or time.monotonic() > end:
                said = container.logs(tail=3).decode(errors="replace").strip()
                raise RolloutFailed(f"the proxy {self.name} does not start", found=one_line(said))
            time.sleep(0.1)

    def _revive(self, container: Container, say: Say) -> None:
        code, output = run_in(self._client, container, ["sh", "-c", nginx.REVIVE])
        if code != 0:
            raise RolloutFailed(
                f"nginx in the proxy {self.name} ended and cannot be started again",
                found=" | ".join(output.strip().splitlines()[-3:]),
                fix=f"Remove it with `docker rm -f {self.name}`: then it is made anew",
            )
        if output.strip():
            say("nginx in the proxy had ended and was started again")

    def subnet(self) -> str:
        """The subnet of the service's own network, which is made if it is missing."""
        try:
            return _subnet(self._client.networks.get(self.name))
        except NotFound:
            pass  # made below
        labels = plan.labels(self._service, "network")
        for last in (False, False, False, True):
            # Docker gives fixed addresses only in a subnet that somebody wrote down: ask it for a free one
            # first. Another process may be given the same in between.
            probe = self._client.networks.create(f"{self.name}-subnet", labels=labels)
            subnet = _subnet(probe)
            probe.remove()
            try:
                ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
                self._client.networks.create(self.name, labels=labels, ipam=ipam)
            except APIError as error:
                if last or "overlaps" not in str(error.explanation):
                    raise
            else:
                break
        return subnet

    # Asking and telling nginx

    def probe(self, addresses: Iterable[str], port: int, path: str, *, looks: int = 0) -> list[Probe]:
        """Ask replicas over the service's network from inside it, which works with every kind of engine.

        First it looks so often, each tenth of a second, whether all are ready: that costs the engine nothing.
        """
        urls = [f"http://{address}:{port}{path}" for address in addresses]
        mark = uuid.uuid4().hex
        return read_probes(self._run(PROBE, mark, str(looks), *urls)[1], mark, len(urls))

    def serving(self) -> str | None:
        """The marker of the configuration that the switch works by; None if it does not answer."""
        container = self.container()
        return None if container is None or container.status != "running" else self._control(container)

    def _control(self, container: Container) -> str | None:
        try:
            code, output = run_in(self._client, container, ["sh", "-c", nginx.CONTROL])
        except APIError:
            return None  # it is not running (any more): no answer
        return output if code == 0 else None

    def drained(self, seconds: float) -> bool:
        """Whether none of the switch's workers serves requests under an earlier configuration, in time."""
        return self._run(nginx.DRAINED, str(max(1, round(seconds * 10))))[0] == 0

    def switch(self, live: Live | None) -> None:
        """Tell nginx and remember it; return when every new request goes there. None answers 503.

        Raises RolloutFailed if nginx refuses.
        """
        self._tell(nginx.SWITCH, live)

    def note(self, live: Live) -> None:
        """Remember what nginx works by already (`serving` is its marker), without touching a connection.

        Raises RolloutFailed if nginx would refuse it.
        """
        self._tell(nginx.NOTE, live)

    def _tell(self, script: str, live: Live | None) -> None:
        files = {"live.conf": switch_conf(live).encode()}
        if live is not None:
            files |= _of(live.revision)
        code, output = self._run(script, self._put(files))
        if code != 0:
            raise RolloutFailed(
                "nginx refuses its new configuration",
                found=" | ".join(output.strip().splitlines()[-3:]),
            )

    def remember(self, revision: Revision) -> None:
        """Put a failed revision into the history."""
        self._must(nginx.REMEMBER, self._put(_of(revision)))

    def _put(self, files: dict[str, bytes]) -> str:
        """Put files into a folder that nobody else uses; its path. Who keeps them removes what is left."""
        folder = f"next/{uuid.uuid4().hex}"
        named = {f"{folder}/{name}": data for name, data in files.items()}
        archive = tar_of(named, ("next", folder), plan.NOBODY_ID)
        self._running().put_archive(plan.VOLUME_PATH, archive)
        return f"{plan.VOLUME_PATH}/{folder}"

    def _must(self, script: str, *args: str) -> None:
        code, output = self._run(script, *args)
        if code != 0:
            raise ReleaseError(f"the proxy {self.name} cannot write its volume", found=output.strip()[-300:])

    def _run(self, script: str, *args: str) -> tuple[int, str]:
        return run_in(self._client, self._running(), ["sh", "-c", script, "linkspan", *args])

    def _running(self) -> Container:
        container = self.container()
        if container is None:
            raise RuntimeUnavailable(f"the proxy {self.name} was removed meanwhile")
        return container


def _of(revision: Revision) -> dict[str, bytes]:
    """Its file in the history."""
    return {f"{revision.number:06}.json": revision.model_dump_json().encode()}


def _subnet(network: Network) -> str:
    return str(network.attrs["IPAM"]["Config"][0]["Subnet"])
