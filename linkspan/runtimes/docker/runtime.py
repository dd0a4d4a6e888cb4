"""The docker runtime: replicas on one Docker Engine behind nginx, replaced without a failed request.

roll_out reads like what it does: start the new replicas, wait until they are ready, switch nginx, let the old
ones finish, remove them. The switch is one rename in the proxy's volume (proxy.py): before it the old
release is live, after it the new one, whenever the process dies. What a killed rollout left behind is not in
the live configuration, and that is how the next one knows it.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import docker
from docker.errors import APIError
from docker.types import Mount
from pydantic import Field

from linkspan.engine import engine, engine_here, engine_id, is_here, pull, reaching
from linkspan.errors import (
    RegistryError,
    RegistryUnavailable,
    ReleaseNotFound,
    RolloutFailed,
)
from linkspan.nouns import Revision
from linkspan.progress import Say
from linkspan.runtimes.base import (
    KubeObject,
    Later,
    Mounting,
    Rollout,
    RuntimeSettings,
    Service,
    at_once,
    check_expected,
)
from linkspan.runtimes.docker import plan
from linkspan.runtimes.docker.images import remove_old, services_of
from linkspan.runtimes.docker.lock import is_locked, locked
from linkspan.runtimes.docker.models import mounted, remove_models
from linkspan.runtimes.docker.nginx import Live
from linkspan.runtimes.docker.nginx_image import nginx_image
from linkspan.runtimes.docker.proxy import Proxy
from linkspan.runtimes.docker.replicas import Replicas, revision_of
from linkspan.runtimes.docker.trial import DockerTrial, trial

_SETTLE_SECONDS = 0.5
"""A replica must still be ready this long after all were: some crash on their first request."""


def _silent(_: str) -> None: ...


class DockerRuntimeSettings(RuntimeSettings):
    """Where and how the docker runtime runs releases."""

    base_url: str = Field(
        default="",
        description="Address of the Docker Engine, e.g. unix:///var/run/docker.sock or ssh://user@host. "
        "Empty: DOCKER_HOST, else the current docker context.",
    )
    bind: str = Field(
        default="127.0.0.1",
        description="Address of the host at which services are reached. 0.0.0.0 opens them to the network.",
    )
    port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port at which the service is reached. 0: a free one is chosen once and kept. With "
        "a fixed port this block can run one service only.",
    )
    nginx_image: str = Field(
        default="",
        description="Image with nginx and curl. Empty: nginx:1-alpine, else one made from Debian packages.",
    )
    keep: int = Field(
        default=5,
        ge=1,
        le=20,
        description="Releases whose images stay on the engine, for a quick rollback; the registry has all.",
    )

    def open(self, registry_auth: Mapping[str, str] | None = None) -> "DockerRuntime":
        """The runtime; `registry_auth` is {"username": …, "password": …} for pulls.

        Raises RuntimeUnavailable when no engine answers.
        """
        return DockerRuntime(engine(self.base_url), self, registry_auth)


class DockerRuntime:
    """A Runtime (linkspan/runtimes/base.py) on a Docker Engine."""

    def __init__(
        self,
        client: docker.DockerClient,
        settings: DockerRuntimeSettings,
        registry_auth: Mapping[str, str] | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._auth = registry_auth

    # Asking

    def live(self, service: Service) -> Revision | None:
        with reaching():
            live = self._proxy(service).live()
            return live.revision if live else None

    def history(self, service: Service) -> list[Revision]:
        with reaching():
            return self._proxy(service).history()[1]

    def drift(self, service: Service, replicas: int) -> str:
        with reaching():
            proxy = self._proxy(service)
            live = proxy.live()
            if live is None:
                return "nothing runs"
            if len(live.addresses) != replicas:
                return f"there are {len(live.addresses)} replicas instead of {replicas}"
            if proxy.serving() != live.marker:
                return "nginx does not serve what is live"
            mine = Replicas(self._client, proxy, service, live)
            broken = [verdict.reason for verdict in mine.steady() if not verdict.done]
            if broken:
                return "; ".join(broken)
            # Left behind by a killed rollout, unless one is going on right now.
            if mine.others() and not is_locked(self._lock(service)):
                return "an interrupted rollout left something behind"
            return ""

    def mounting(self, path: str, objects: Sequence[KubeObject]) -> Mounting:  # noqa: ARG002
        """As a volume, where the app says so: a release that holds all runs with a plain `docker run` too."""
        return Mounting("some")

    def refresh(self, service: Service) -> None:
        """Nothing here expires: the engine pulls once, with the password of that moment."""

    def url(self, service: Service) -> str:
        with reaching():
            known = self._proxy(service).published()
        if known is None:
            raise ReleaseNotFound(f"{service} was never released on this engine")
        host = self._settings.bind
        if host in {"0.0.0.0", "::"}:  # noqa: S104
            host = urlsplit(self._settings.base_url).hostname or "localhost"
        return f"http://{host}:{self._settings.port or known[1]}"

    def revision_of(self, service: Service, replica: str) -> int | None:
        with reaching():
            return revision_of(self._client, service, replica)

    # Doing

    def trial(
        self, rollout: Rollout, *, say: Say, later: Later = at_once
    ) -> AbstractContextManager[DockerTrial]:
        """On this machine's engine if ours is on another, whose loopback nobody reaches from here."""
        client = self._client if is_here(self._client) else engine_here()
        return trial(client, rollout, auth=self._auth, say=say, later=later)

    def roll_out(self, rollout: Rollout, *, say: Say) -> Revision:
        service = rollout.service
        patience = rollout.ready_seconds + rollout.request_seconds + 120
        with reaching(), locked(self._lock(service), seconds=patience, say=say), _asking(service):
            proxy = self._proxy(service, say)
            live, history = proxy.history()
            check_expected(rollout, live.revision if live else None)
            if live is not None and live.spec == plan.spec_of(rollout):
                revision = self._repair(rollout, proxy, live, say)
            else:
                newest = max((revision.number for revision in history), default=0)
                revision = self._replace(rollout, proxy, live, newest + 1, say)
            remove_old(
                self._client,
                service,
                keep=self._settings.keep,
                history=self.history,
                busy=lambda other: is_locked(self._lock(other)),
                say=say,
            )
            return revision

    def destroy(self, service: Service) -> None:
        with reaching(), locked(self._lock(service), seconds=600, say=_silent), _asking(service):
            proxy = self._proxy(service)
            proxy.published()  # raises if the names belong to another service
            Replicas(self._client, proxy, service, None).remove_others()
            filters = plan.label_filter(service)
            for container in self._client.containers.list(all=True, filters=filters, ignore_removed=True):
                container.remove(force=True, v=True)
            for network in self._client.networks.list(filters=filters):
                network.remove()
            for volume in self._client.volumes.list(filters=filters):
                volume.remove()
            if not services_of(self._client, service.app):
                remove_models(self._client, service.app, keep=(), say=_silent)

    # The steps

    def _replace(self, rollout: Rollout, proxy: Proxy, old: Live | None, number: int, say: Say) -> Revision:
        image = self._pull(rollout, say)
        proxy.ensure(bind=self._settings.bind, port=self._settings.port, say=say)
        self._tidy(rollout, proxy, old, say)
        revision = Revision(
            number=number,
            release=rollout.release,
            cause=rollout.cause,
            at=datetime.now(UTC),
            run=rollout.run,
            pinned=rollout.pinned,
        )
        taken = old.addresses if old else ()
        live = Live(
            revision=revision,
            spec=plan.spec_of(rollout),
            addresses=plan.replica_addresses(proxy.subnet(), number, rollout.replicas, taken),
            port=rollout.port,
            ready_path=rollout.ready_path,
            request_seconds=rollout.request_seconds,
        )
        new = Replicas(self._client, proxy, rollout.service, live)
        try:
            say(f"revision {number}: starting {rollout.replicas} of {rollout.release.title}")
            with self._mounted(rollout, say) as mounts:
                new.start(rollout, image, mounts)
            say(f"revision {number}: waiting until all are ready")
            new.wait(seconds=rollout.ready_seconds, settle=_SETTLE_SECONDS, say=say)
            new.keep()
            say(f"revision {number}: switching nginx to it")
            proxy.switch(live)
            if old is not None:
                say(f"revision {number}: letting the requests to revision {old.revision.number} end")
                self._drain(proxy, old.request_seconds)
            new.check()  # while the old ones are still there to go back to
        except (RolloutFailed, APIError) as error:
            failed = _failure(rollout, error)
            self._undo(proxy, old, new, say)
            proxy.remember(revision.with_outcome("failed", failed.found))
            raise failed from None
        say(f"revision {number}: removing what it replaces")
        new.remove_others()
        say(f"revision {number}: live")
        return revision

    def _undo(self, proxy: Proxy, old: Live | None, new: Replicas, say: Say) -> None:
        if proxy.live() != old:
            say("switching nginx back")
            proxy.switch(old)
            self._drain(proxy, old.request_seconds if old else 0)
        new.remove()

    def _repair(self, rollout: Rollout, proxy: Proxy, live: Live, say: Say) -> Revision:
        proxy.ensure(bind=self._settings.bind, port=self._settings.port, say=say)
        revision = live.revision.model_copy(update={"pinned": rollout.pinned})
        wanted = live.model_copy(update={"revision": revision, "request_seconds": rollout.request_seconds})
        replicas = Replicas(self._client, proxy, rollout.service, wanted)
        if broken := replicas.clear_broken(rollout):
            image = self._pull(rollout, say)
            for name in broken:
                say(f"revision {revision.number}: {name} was missing or broken and is started again")
            with self._mounted(rollout, say) as mounts:
                replicas.start(rollout, image, mounts, broken)
        try:
            replicas.wait(seconds=rollout.ready_seconds, settle=0, say=say)
        except RolloutFailed as error:
            raise _failure(rollout, error) from None
        replicas.keep()
        if proxy.serving() != wanted.marker:
            say(f"revision {revision.number}: telling nginx")
            proxy.switch(wanted)
        elif wanted != live:
            proxy.note(wanted)  # a reload would end the WebSockets, and nothing that they are on is replaced
        self._tidy(rollout, proxy, wanted, say)
        return revision

    def _tidy(self, rollout: Rollout, proxy: Proxy, live: Live | None, say: Say) -> None:
        """Remove what an interrupted rollout left behind; it may still be answering requests."""
        mine = Replicas(self._client, proxy, rollout.service, live)
        if mine.others():
            say("removing what an interrupted rollout left behind")
            self._drain(proxy, max(rollout.request_seconds, live.request_seconds if live else 0))
            mine.remove_others()

    def _drain(self, proxy: Proxy, seconds: float) -> None:
        """Wait until no request is left on what was live before; nginx cuts them off after `seconds`."""
        end = time.monotonic() + seconds + 5
        while (left := end - time.monotonic()) > 0 and not proxy.drained(min(left, 5)):
            pass  # not in one go: an engine that is silent for long has gone

    def _mounted(self, rollout: Rollout, say: Say) -> AbstractContextManager[list[Mount]]:
        return mounted(self._client, rollout.service.app, rollout.mount, self._auth, say=say)

    def _pull(self, rollout: Rollout, say: Say) -> str:
        """The image's ID. What it mounts is there then too."""
        say(f"pulling {rollout.image}")
        try:
            image = str(pull(self._client, rollout.image, self._auth, say=say).id)
            with self._mounted(rollout, say):
                return image
        except RegistryUnavailable:
            raise
        except RegistryError as error:
            # Nothing was tried, so no failed revision: it says nothing about the release.
            raise RolloutFailed(
                f"{rollout.release.title} cannot be rolled out in {rollout.service}: {error.what}",
                found=error.found,
                fix=error.fix,
            ) from None

    def _proxy(self, service: Service, say: Say = _silent) -> Proxy:
        def image() -> str:
            return nginx_image(self._client, self._settings.nginx_image, self._settings.base_url, say=say)

        return Proxy(self._client, service, image)

    def _lock(self, service: Service) -> str:
        return f"{plan.name_of(service)}-{engine_id(self._client)}"


def _failure(rollout: Rollout, error: RolloutFailed | APIError) -> RolloutFailed:
    reason = str(error.explanation or error) if isinstance(error, APIError) else str(error)
    return RolloutFailed(
        f"{rollout.release.title} did not become ready in {rollout.service}",
        found=" ".join(reason.split())[:600],
        fix="The release before it still serves; look at the app's log above, mend it and release again",
    )


@contextmanager
def _asking(service: Service) -> Iterator[None]:
    """Turn a refusal of the engine that no step expected into RolloutFailed."""
    try:
        yield
    except APIError as error:
        raise RolloutFailed(
            f"the Docker Engine refuses what it was asked to do for {service}",
            found=" ".join(str(error.explanation or error).split())[:600],
        ) from None
