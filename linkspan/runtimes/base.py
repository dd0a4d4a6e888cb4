"""What Linkspan asks of a place that runs releases.

tests/runtimes/test_conformance.py is its specification.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Protocol

import httpx
from pydantic import BaseModel, Field

from linkspan.errors import RolloutConflict
from linkspan.nouns import Mount, Name, Noun, Release, Revision
from linkspan.progress import Say
from linkspan.runtimes.readiness import Readiness

KubeObject = dict[str, Any]
"""A Kubernetes object as its YAML says it. Any: the kinds are the cluster's, not ours."""


class Service(Noun):
    """The thing users reach: one app in one environment.

    `namespace` is where a cluster keeps it; empty leaves that to the runtime.
    """

    app: Name
    environment: Name
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.app}-{self.environment}"


class Rollout(Noun):
    """Everything a runtime needs in order to run a release.

    `image` is the full reference by digest. Times are in seconds. `expect` is the number of the revision that
    the caller saw live (0 for none): the rollout is refused with RolloutConflict if another is live by then.
    `memory` is as Docker writes it (512m), `cpu` as Kubernetes does (500m). `run` names the flow run. `host`
    is the name at which users reach the service, `objects` the app's own: both are for a cluster. `mount` is
    the model's image, for a release that does not hold the model itself.
    """

    service: Service
    release: Release
    image: str
    mount: Mount | None = None
    cause: str
    run: str = ""
    replicas: int = Field(default=2, ge=1, le=64)
    port: int = Field(default=8080, ge=1, le=65535)
    ready_path: str = "/readyz"
    request_seconds: float = Field(default=30.0, gt=0)
    ready_seconds: float = Field(default=120.0, gt=0)
    env: dict[str, str] = Field(default_factory=dict)
    memory: str = ""
    cpu: str = ""
    host: str = ""
    objects: tuple[KubeObject, ...] = ()
    pinned: bool = False
    expect: int = Field(default=0, ge=0)


def check_expected(rollout: Rollout, live: Revision | None) -> None:
    """Raises RolloutConflict if another revision is live than the caller of the rollout saw."""
    number = live.number if live else 0
    if number != rollout.expect:
        raise released_meanwhile(
            rollout.service, expected=f"revision {rollout.expect} live", found=f"revision {number}"
        )


def released_meanwhile(service: object, *, expected: str = "", found: str) -> RolloutConflict:
    """The error of whoever was not the only one to release."""
    return RolloutConflict(
        f"{service} was released by somebody else meanwhile", expected=expected, found=found
    )


class Mounting(NamedTuple):
    """Which of the places where replicas run can mount a model's image (Rollout.mount).

    `reason` says for people what keeps it from being all. `unknown`: nobody could be asked.
    """

    places: Literal["all", "some", "none", "unknown"]
    reason: str = ""


Later = Callable[[Callable[[], None]], None]
"""Does what nobody waits for: soon, and beside what comes next."""


def at_once(work: Callable[[], None]) -> None:
    """The `Later` of who has nothing else to do."""
    work()


TRIED = "LINKSPAN_TRIAL"
"""In the environment of a replica that is only tried: what it would take from a queue is not for it."""


class Trial(Protocol):
    """One replica of a release that runs apart from its service, and the way to ask it.

    Calls raise RuntimeUnavailable when the platform cannot be reached, or took the replica away.
    """

    def verdict(self, ready_path: str) -> Readiness:
        """Whether it is ready now."""
        ...

    def log(self) -> str:
        """The last lines that it printed."""
        ...

    def ask(self, method: str, path: str, *, json: Any = None, seconds: float) -> httpx.Response:
        """Its whole answer, as asking.ask gives it."""
        ...


class Runtime(Protocol):
    """Runs releases without a failed request.

    Calls raise RuntimeUnavailable (retriable) when the platform cannot be reached.
    """

    def live(self, service: Service) -> Revision | None:
        """The revision that gets the traffic now, as the platform itself says; None if nothing runs."""
        ...

    def drift(self, service: Service, replicas: int) -> str:
        """How what runs differs from what was rolled out, with that many replicas; empty if it does not."""
        ...

    def mounting(self, path: str, objects: Sequence[KubeObject]) -> Mounting:
        """Where replicas made of the app's `objects`, if it has any, can mount a model's image at `path`."""
        ...

    def refresh(self, service: Service) -> None:
        """Renew what expires while a release runs, such as the password that a cluster pulls with."""
        ...

    def history(self, service: Service) -> list[Revision]:
        """Revisions, newest first, failed ones too; at most 50."""
        ...

    def revision_of(self, service: Service, replica: str) -> int | None:
        """The number of the revision that a replica (a pod, a container) of the service belongs to.

        Also of one that has gone, as long as the platform remembers; None if it is none of the service's.
        """
        ...

    def trial(self, rollout: Rollout, *, say: Say, later: Later = at_once) -> AbstractContextManager[Trial]:
        """One replica of `rollout.release`, started where it is to run; no user's request reaches it.

        So what it is made of is fetched once, for it and for the rollout. It is removed at the end, which is
        left to `later` if all went well. Entering raises SmokeFailed if it cannot start, RuntimeUnavailable
        if it cannot be tried now, RegistryError where its image cannot be had, and what roll_out raises for
        objects that are refused.
        """
        ...

    def roll_out(self, rollout: Rollout, *, say: Say) -> Revision:
        """Replace what is live by `rollout.release`; return when every replica is ready and has traffic.

        The old release serves until then. May be called again after any interruption: it finishes or starts
        over, and leaves no half of anything. Raises RolloutFailed with the cause in one line when the release
        does not become ready (then the old one still serves, and a `failed` revision is in the history), and
        RolloutConflict (see Rollout.expect).
        """
        ...

    def url(self, service: Service) -> str:
        """Where users reach the service."""
        ...

    def destroy(self, service: Service) -> None:
        """Remove the service and everything this runtime made for it, its history too."""
        ...


class RuntimeSettings(BaseModel):
    """Settings of a runtime. Subclasses add where it is, and say how to open it."""

    @abstractmethod
    def open(self, registry_auth: Mapping[str, str] | None = None) -> Runtime:
        """The runtime; `registry_auth` is {"username": …, "password": …} for pulls."""
