"""What the three flows share: when to retry, where log lines go, how one run starts another."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar, cast
from uuid import uuid4

from docker import DockerClient
from prefect import Task, get_client, get_run_logger
from prefect.blocks.core import Block
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.deployments import arun_deployment
from prefect.events import emit_event
from prefect.tasks import exponential_backoff
from prefect.utilities.urls import url_for

from blocks import ContainerRegistry, GitRepository, ImageBuilder
from linkspan.code.builder import Builder
from linkspan.code.source import GitSource
from linkspan.engine import engine
from linkspan.errors import ConfigError, LinkspanError
from linkspan.local.wake import wake
from linkspan.models import ModelStore, open_models
from linkspan.progress import Say
from linkspan.registry.client import Registry
from linkspan.release.report import Step
from linkspan.runtimes.base import Runtime, RuntimeSettings
from linkspan.stores.settings import StoreSettings

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


@dataclass(frozen=True)
class Opened:
    """What a step works with: its blocks, each loaded once, and opened; what has connections is closed."""

    _closing: ExitStack
    _loaded: dict[str, Block] = field(default_factory=dict)

    async def block(self, kind: type[B], reference: str) -> B:
        """The saved block that `block-type/name` refers to. Raises ConfigError if there is none of a kind."""
        block = self._loaded.get(reference)
        if block is None:
            try:
                block = self._loaded[reference] = await Block.aload(reference)
            except ValueError as error:  # what Prefect says of a block that was never saved
                raise ConfigError(
                    f"block {reference} is not on the Prefect server",
                    found=error,
                    fix="Save it: in the UI (Blocks), or in Python with `.save(…)` as the README shows",
                ) from None
        if not isinstance(block, kind):
            raise ConfigError(f"{reference!r} cannot stand here", expected=f"a {kind.__name__}")
        return block

    async def repository(self, block: str) -> GitSource:
        return (await self.block(GitRepository, block)).open()

    async def models(self, block: str, name: str) -> ModelStore:
        return open_models(await self.block(StoreSettings, block), name)

    async def registry(self, block: str, app: str) -> Registry:
        return self._closing.enter_context((await self.block(ContainerRegistry, block)).open(app))

    async def login(self, registry: str) -> Mapping[str, str] | None:
        """What an engine or a cluster needs to pull: {"username": …, "password": …}."""
        place = await self.block(ContainerRegistry, registry)
        return await asyncio.to_thread(place.docker_auth)  # for some registries that is a call

    async def builder(self, block: str) -> Builder:
        return self._closing.enter_context(closing((await self.block(ImageBuilder, block)).open()))

    async def engine(self, block: str) -> DockerClient:
        """The Docker Engine of an image builder."""
        client = await asyncio.to_thread(engine, (await self.block(ImageBuilder, block)).base_url)
        return self._closing.enter_context(closing(client))

    async def runtime(self, block: str, registry: str) -> Runtime:
        """The runtime, which pulls with the password of the block `registry`."""
        settings, login = await self.block(RuntimeSettings, block), await self.login(registry)
        return await asyncio.to_thread(settings.open, login)


@contextmanager
def opened() -> Iterator[Opened]:
    """What a step opens, closed at its end.

    But not when its time is up: nobody can end its thread, which cleans up, and says what failed, with these.
    """
    with ExitStack() as stack:
        try:
            yield Opened(stack)
        except asyncio.CancelledError:
            stack.pop_all()
            raise


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
