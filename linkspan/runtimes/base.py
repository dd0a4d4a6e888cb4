"""What Linkspan asks of a place that runs releases.

tests/runtimes/test_conformance.py is its specification.
"""

from collections.abc import Callable
from typing import Protocol

from pydantic import Field

from linkspan.nouns import Name, Noun, Release, Revision

Say = Callable[[str], None]
"""Takes a line for people about what is going on."""


class Service(Noun):
    """The thing users reach: one app in one environment."""

    app: Name
    environment: Name

    def __str__(self) -> str:
        return f"{self.app}-{self.environment}"


class Rollout(Noun):
    """Everything a runtime needs in order to run a release.

    `image` is the full reference by digest. Times are in seconds. `expect` is the number of the revision that
    the caller saw live (0 for none): the rollout is refused with RolloutConflict if another is live by then.
    """

    service: Service
    release: Release
    image: str
    cause: str
    replicas: int = Field(default=2, ge=1, le=64)
    port: int = Field(default=8080, ge=1, le=65535)
    ready_path: str = "/readyz"
    request_seconds: float = Field(default=30.0, gt=0)
    ready_seconds: float = Field(default=120.0, gt=0)
    env: dict[str, str] = Field(default_factory=dict)
    memory: str = ""
    pinned: bool = False
    expect: int = Field(default=0, ge=0)


class Runtime(Protocol):
    """Runs releases without a failed request.

    Calls raise RuntimeUnavailable (retriable) when the platform cannot be reached.
    """

    def live(self, service: Service) -> Revision | None:
        """The revision that gets the traffic now, as the platform itself says; None if nothing runs."""
        ...

    def healthy(self, service: Service, replicas: int) -> bool:
        """Whether what is live runs as it was rolled out: that many ready replicas of it, reachable."""
        ...

    def history(self, service: Service) -> list[Revision]:
        """Revisions, newest first, failed ones too; at most 50."""
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
