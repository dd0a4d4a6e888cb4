"""What the Prefect server says about runs, logs, deployments and workers, as values."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from linkspan import errors
from linkspan.errors import ConfigError, LinkspanError, RunFailed
from linkspan.nouns import Noun

S = TypeVar("S", bound=BaseModel)

FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
# How Prefect words the state of a flow that raised.
_RAISED = re.compile(r"exception: (\w+): ")
LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}


class RunRef(Noun):
    """A run that was asked for. `created` is False if the same idempotency key had already made it."""

    id: str
    name: str
    url: str
    created: bool


class Run(Noun):
    """A run as the server knows it. `state_type` is one of Prefect's state types, such as RUNNING.

    `scheduled`: a schedule made it, not a hint.
    """

    id: str
    name: str
    url: str
    state_type: str
    state_name: str
    message: str
    parameters: dict[str, Any]
    deployment_id: str | None
    run_count: int
    scheduled: bool
    created: datetime
    started: datetime | None
    ended: datetime | None

    @classmethod
    def of(cls, data: dict[str, Any], url: str) -> Self:
        """From the server's JSON."""
        return cls(
            id=data["id"],
            name=data["name"],
            url=url,
            state_type=data.get("state_type") or "PENDING",
            state_name=data.get("state_name") or "",
            message=(data.get("state") or {}).get("message") or "",
            parameters=data.get("parameters") or {},
            deployment_id=data.get("deployment_id"),
            run_count=data.get("run_count") or 0,
            scheduled=bool(data.get("auto_scheduled")),
            created=data["created"],
            started=data.get("start_time"),
            ended=data.get("end_time"),
        )

    @property
    def final(self) -> bool:
        """Whether it has ended. A crashed run may still be started again by an automation."""
        return self.state_type in FINAL

    @property
    def failure(self) -> LinkspanError | None:
        """The error that ended it, of the kind that the flow raised, so that exit codes tell them apart.

        None for a run that completed or goes on; RunFailed for what was no error of ours, such as a crash.
        """
        if not self.final or self.state_type == "COMPLETED":
            return None
        raised = _RAISED.search(self.message)
        kind = getattr(errors, raised[1], None) if raised else None
        if raised and isinstance(kind, type) and issubclass(kind, LinkspanError):
            return kind(self.message[raised.end() :], fix=f"See {self.url}")
        return RunFailed(f"run {self.name} ended as {self.state_name}: {self.message}", fix=f"See {self.url}")


class LogLine(Noun):
    """A line of a run's log."""

    at: datetime
    level: str
    message: str

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """From the server's JSON."""
        level = LEVELS.get(data["level"] // 10 * 10, str(data["level"]))
        return cls(at=data["timestamp"], level=level, message=data["message"])


class Deployment(Noun):
    """A deployment; `name` is `flow-name/deployment-name`."""

    id: str
    name: str
    version: str | None
    queue: str | None
    paused: bool
    tags: tuple[str, ...]
    parameters: dict[str, Any]

    @classmethod
    def of(cls, data: dict[str, Any], name: str) -> Self:
        """From the server's JSON, which holds the flow's ID but not its name."""
        return cls(
            id=data["id"],
            name=name,
            version=data.get("version"),
            queue=data.get("work_queue_name"),
            paused=bool(data.get("paused")),
            tags=tuple(data.get("tags") or ()),
            parameters=data.get("parameters") or {},
        )


class Worker(Noun):
    """A worker of a pool, online if the server has heard of it lately."""

    name: str
    online: bool
    last_heartbeat: datetime | None

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """From the server's JSON."""
        return cls(
            name=data["name"],
            online=data["status"] == "ONLINE",
            last_heartbeat=data.get("last_heartbeat_time"),
        )


class Event(Noun):
    """Something in the server's feed. `resource` is the ID of what it is about, `subject` that one's name.

    `flow` and `deployment` are the names of those of a run's event; `tags` are the run's.
    """

    id: str
    at: datetime
    name: str
    resource: str
    subject: str
    flow: str
    deployment: str
    tags: tuple[str, ...]
    payload: dict[str, Any]

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """From the server's JSON."""
        related: dict[str, list[dict[str, str]]] = {}
        for each in data.get("related") or ():
            related.setdefault(each.get("prefect.resource.role", ""), []).append(each)
        about = data["resource"]
        flow, deployment = (
            related.get(role, [{}])[0].get("prefect.resource.name", "") for role in ("flow", "deployment")
        )
        return cls(
            id=data["id"],
            at=data["occurred"],
            name=data["event"],
            resource=about.get("prefect.resource.id", ""),
            subject=about.get("prefect.resource.name", ""),
            flow=flow,
            deployment=deployment,
            tags=tuple(
                each.get("prefect.resource.id", "").removeprefix("prefect.tag.")
                for each in related.get("tag", ())
            ),
            payload=data.get("payload") or {},
        )


def settings_from(kind: type[S], ref: str, fields: Mapping[str, Any]) -> S:
    """The settings that a saved block's fields make. Raises ConfigError, without any value in it."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)
        )
        raise ConfigError(f"block {ref} is not complete: {wrong}", fix="Edit it in the Prefect UI") from None
