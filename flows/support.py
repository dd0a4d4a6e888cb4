"""What the flows share: when to retry, where log lines go, how one run starts another."""

import time
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, cast
from uuid import uuid4

from prefect import Task, get_client, get_run_logger
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.deployments import arun_deployment
from prefect.events import emit_event
from prefect.tasks import exponential_backoff
from prefect.utilities.urls import url_for

from linkspan.errors import LinkspanError
from linkspan.local.wake import wake
from linkspan.progress import Say
from linkspan.release.report import Step

B = TypeVar("B")
P = ParamSpec("P")
R = TypeVar("R")


def temporary(_task: object, _run: TaskRun, state: State[Any]) -> bool:
    """Whether the error that ended a task may be gone by itself: what `retriable` says, nothing else."""
    return isinstance(state.data, LinkspanError) and state.data.retriable


def step(
    name: str, *, timeout_seconds: float | None = None
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Task[P, Coroutine[Any, Any, R]]]:
    """A task as we have them: idempotent, and retried only when the error says that it may pass."""

    def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> Task[P, Coroutine[Any, Any, R]]:
        return Task(
            function,
            name=name,
            retries=4,
            retry_delay_seconds=exponential_backoff(backoff_factor=2),
            retry_jitter_factor=0.5,
            retry_condition_fn=temporary,
            timeout_seconds=timeout_seconds,
        )

    return decorate


def say() -> Say:
    """Writes lines to the log of the current run."""
    return cast(Callable[[str], None], get_run_logger().info)


async def name_run(name: str) -> None:
    """Call the current flow run what it turned out to be about."""
    context = FlowRunContext.get()
    if context and context.flow_run:
        async with get_client() as client:
            await client.update_flow_run(context.flow_run.id, name=name)


def scheduled() -> bool:
    """Whether the schedule started this run, not a hint; one that crashed may have done something."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return bool(run and run.auto_scheduled and run.run_count <= 1)


async def start(deployments: list[str], *, hint: str, key: str, parameters: dict[str, Any]) -> None:
    """Start each deployment once per `key`; a repeated call finds the run that is there already."""
    for deployment in deployments:
        run = await arun_deployment(
            deployment,
            parameters={"hint": hint, **parameters},
            timeout=0,
            as_subflow=False,
            idempotency_key=f"{deployment}:{key}",
        )
        wake()
        get_run_logger().info("Started %s as %s", deployment, run.name)


def run_url() -> str:
    """Where the UI shows the current flow run, for those who ask later where a release came from."""
    context = FlowRunContext.get()
    return (url_for(context.flow_run) or "") if context and context.flow_run else ""


def own_key() -> str:
    """The idempotency key of what the current run starts: once, also if it crashes and runs again."""
    context = FlowRunContext.get()
    return f"run:{context.flow_run.id}" if context and context.flow_run else f"call:{uuid4().hex}"


def announce(event: str, resource: str, payload: dict[str, Any]) -> None:
    """Add an event to the feed (linkspan/events.py). Nothing of ours depends on it."""
    emit_event(event, resource={"prefect.resource.id": resource}, payload=payload)


class Stopwatch:
    """Collects the steps of a run for its report. `before` are those of the stream that started it."""

    def __init__(self, before: list[Step] | None = None) -> None:
        self.steps = list(before or [])
        self._since = time.monotonic()

    def lap(self, name: str, *, pushed: int = 0, reused: bool = False) -> None:
        """Note that what was done since the last lap was `name`."""
        now = time.monotonic()
        self.steps.append(Step(name=name, seconds=now - self._since, pushed=pushed, reused=reused))
        self._since = now
