"""What the three flows share: when to retry, where log lines go, how a run is named, how one starts another."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from prefect import get_client, get_run_logger, task
from prefect.blocks.core import Block
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.deployments import arun_deployment
from prefect.tasks import exponential_backoff

from blocks import RUNTIMES, STORES, DockerRuntime, ModelStoreBlock
from linkspan.errors import ConfigError, LinkspanError
from linkspan.report import Step
from linkspan.runtimes.base import Say

B = TypeVar("B", bound=Block)


def temporary(_task: object, _run: TaskRun, state: State[Any]) -> bool:
    """Whether the error that ended a task may be gone by itself: what `retriable` says, nothing else."""
    return isinstance(state.data, LinkspanError) and state.data.retriable


# A task is a retry boundary: idempotent, and retried only when the error says that it may pass.
step: Callable[..., Any] = partial(
    task,
    retries=4,
    retry_delay_seconds=exponential_backoff(backoff_factor=2),
    retry_jitter_factor=0.5,
    retry_condition_fn=temporary,
)


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
    """Whether the current run was started by its schedule, not by a hint."""
    context = FlowRunContext.get()
    return bool(context and context.flow_run and context.flow_run.auto_scheduled)


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
        get_run_logger().info("Started %s as %s", deployment, run.name)


async def load_store(reference: str) -> ModelStoreBlock:
    """The store block of a reference such as `s3-model-store/digits`. Raises ConfigError for another kind."""
    return await _load(reference, STORES)


async def load_runtime(reference: str) -> DockerRuntime:
    """The runtime block of a reference such as `docker-runtime/digits-production`."""
    return await _load(reference, RUNTIMES)


async def _load(reference: str, kinds: tuple[type[B], ...]) -> B:
    block = await Block.aload(reference)
    if not isinstance(block, kinds):
        known = " or ".join(f"{kind.get_block_type_slug()}/name" for kind in kinds)
        raise ConfigError(f"{reference!r} cannot stand here", expected=known)
    return block


def key_of(*parts: str | None) -> str:
    """An idempotency key of what would be released; a hint in it lets the same thing be asked for again."""
    return ":".join(part or "" for part in parts)


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
