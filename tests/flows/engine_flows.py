"""Small flows that the tests of the machinery around the real flows deploy and kill."""

import asyncio
import os
import signal
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from flows.coalesce import guard_attempts, supersede_siblings


def _note(folder: str, text: str) -> None:
    with Path(folder, "seen").open("a") as file:
        file.write(f"{text}\n")


def _newest(folder: str) -> str:
    return Path(folder, "newest").read_text()


def _is_held(folder: str) -> bool:
    return Path(folder, "hold").exists()


def _may_go(folder: str) -> bool:
    return Path(folder, "go").exists()


@flow(name="test-coalesce")
async def coalesce(folder: str, environment: str = "one", hint: str = "", on_purpose: bool = False) -> None:
    """Supersede first, then read the newest state; then take as long as the file `hold` is there."""
    await supersede_siblings()
    _note(folder, f"{environment} {_newest(folder)} {on_purpose}")
    while _is_held(folder):  # noqa: ASYNC110 - another process says so, by a file
        await asyncio.sleep(0.05)


@flow(name="test-crash")
async def crash(folder: str, times: int) -> None:
    """Die by SIGKILL in the first `times` attempts."""
    await guard_attempts(limit=3)
    attempts = flow_run.get_run_count()
    _note(folder, f"attempt {attempts}")
    if attempts <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    get_run_logger().info("it lives")


@flow(name="test-wait")
async def wait(folder: str) -> None:
    """Say that it runs, then wait until there is a file `go`."""
    _note(folder, f"pid {os.getpid()}")
    while not _may_go(folder):  # noqa: ASYNC110 - another process says so, by a file
        await asyncio.sleep(0.05)
    get_run_logger().info("it may go")


@flow(name="test-scheduled")
async def scheduled(word: str = "", hint: str = "") -> str:
    """Nothing but parameters."""
    return word + hint
