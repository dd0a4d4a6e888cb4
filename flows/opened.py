"""What the steps of a run work with: its blocks, read once, and the connections that they lend each other.

A block is some requests to the server and a client of a registry or an engine begins with a login; a release
has eleven steps. So a run keeps both in its process (never in a parameter or a result: they hold passwords)
until it ends. A step that failed, and its next try, begin anew with the blocks as they are then.
"""

import asyncio
import functools
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

from prefect import get_run_logger
from prefect.blocks.core import Block
from prefect.exceptions import MissingContextError

from blocks import ContainerRegistry, GitRepository, ImageBuilder
from linkspan.code.builder import Builder
from linkspan.code.source import GitSource
from linkspan.errors import ConfigError
from linkspan.models import ModelStore, open_models
from linkspan.progress import Say
from linkspan.registry.client import Registry
from linkspan.runtimes.base import Runtime, RuntimeSettings
from linkspan.stores.settings import StoreSettings


class Closable(Protocol):
    def close(self) -> None: ...


B = TypeVar("B")
C = TypeVar("C", bound=Closable)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Kept:
    """What a run keeps for its next steps: blocks by reference, and clients that no step is using now.

    `work` is what no step waits for.
    """

    blocks: dict[str, Block] = field(default_factory=dict)
    clients: dict[tuple[str, ...], list[Closable]] = field(default_factory=dict)
    work: list[threading.Thread] = field(default_factory=list)

    def close(self) -> None:
        """Wait for the work, and forget all."""
        while self.work:
            self.work.pop().join()
        self.forget()

    def forget(self) -> None:
        """Close the clients, and forget the blocks."""
        self.blocks.clear()
        while self.clients:
            key, idle = self.clients.popitem()
            for client in idle:
                _close(key, client)


def _close(key: tuple[str, ...], client: Closable) -> None:
    """What keeps it from closing is told and nobody's error: it has done its work, or its step has failed."""
    try:
        client.close()
    except Exception as error:  # noqa: BLE001 of any client
        try:
            log: logging.LoggerAdapter[Any] | logging.Logger = get_run_logger()
        except MissingContextError:
            log = logging.getLogger(__name__)
        log.warning("%s could not be closed: %s: %s", " ".join(key), type(error).__name__, error)


_KEPT: ContextVar[Kept | None] = ContextVar("kept", default=None)


def keeping(flow: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """A flow whose steps keep what they open for each other, until it ends."""

    async def run(*arguments: P.args, **named: P.kwargs) -> R:
        return await _keep(flow(*arguments, **named))

    # Prefect hashes the file that this code says it is of: that is the flow's version. A traceback shows its
    # one line as the one below the flow's first decorator.
    code = flow.__code__
    run.__code__ = run.__code__.replace(co_filename=code.co_filename, co_firstlineno=code.co_firstlineno)
    return functools.wraps(flow)(run)


async def _keep(run: Coroutine[Any, Any, R]) -> R:
    kept = Kept()
    token = _KEPT.set(kept)
    try:
        return await run
    finally:
        _KEPT.reset(token)
        await asyncio.shield(asyncio.to_thread(kept.close))


@dataclass(frozen=True)
class Opened:
    """What a step works with: its blocks, and what they open, which is this step's alone until it ends."""

    _kept: Kept
    _used: list[tuple[tuple[str, ...], Closable]] = field(default_factory=list)

    async def block(self, kind: type[B], reference: str) -> B:
        """The saved block that `block-type/name` refers to. Raises ConfigError if there is none of a kind."""
        block = self._kept.blocks.get(reference)
        if block is None:
            try:
                block = self._kept.blocks[reference] = await Block.aload(reference)
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
        settings = await self.block(ContainerRegistry, block)
        return await self.lend(("registry", block, app), lambda: settings.open(app))

    async def login(self, registry: str) -> Mapping[str, str] | None:
        """What an engine or a cluster needs to pull: {"username": …, "password": …}."""
        place = await self.block(ContainerRegistry, registry)
        return await asyncio.to_thread(place.docker_auth)  # for some registries that is a call

    async def builder(self, block: str) -> Builder:
        return await self.lend(("builder", block), (await self.block(ImageBuilder, block)).open)

    async def runtime(self, block: str, registry: str) -> Runtime:
        """The runtime, which pulls with the password of the block `registry`."""
        settings, login = await self.block(RuntimeSettings, block), await self.login(registry)
        return await asyncio.to_thread(settings.open, login)

    def later(self, work: Callable[[], None], tell: Say) -> None:
        """Do it beside what comes next. The run ends after it; `tell` hears if it fails."""

        def told() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 it is nobody's step any more
                tell(f"What was left for later failed: {' '.join(str(error).split())[:300]}")

        thread = threading.Thread(target=told, name="later")
        thread.start()
        self._kept.work.append(thread)

    async def lend(self, key: tuple[str, ...], make: Callable[[], C]) -> C:
        """A client that no other step is using, else a new one."""
        idle: Any = self._kept.clients.get(key)  # of one key all are of one type
        client: C = idle.pop() if idle else await asyncio.to_thread(make)
        self._used.append((key, client))
        return client

    def give_back(self) -> None:
        for key, client in self._used:
            self._kept.clients.setdefault(key, []).append(client)

    def close(self) -> None:
        for key, client in self._used:
            _close(key, client)


@contextmanager
def opened() -> Iterator[Opened]:
    """What a step opens, kept for the run's next steps at its end, or closed where no run keeps anything.

    When its time is up nothing is closed: nobody can end its thread, which cleans up, and says what failed,
    with these.
    """
    with ExitStack() as stack:
        kept = _KEPT.get()
        if kept is None:
            kept = Kept()
            stack.callback(kept.close)
        it = Opened(kept)
        try:
            yield it
        except asyncio.CancelledError:
            stack.pop_all()
            raise
        except BaseException:
            it.close()
            kept.forget()  # the next try sees what somebody has mended
            raise
        it.give_back()
