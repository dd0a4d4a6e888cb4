"""Prefect's worker for processes, which also looks for runs as soon as it is told that there is one.

`python -m flows.worker …` is `prefect worker start --type process …`. Each look writes to the server's
database, so there is one a second (linkspan/local/prefect_settings.py): a release, which is two runs, waited
for it twice, half a second on average. What nobody tells, a clock's or another machine's, waits as before.
"""

import asyncio
import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx
from prefect.cli import app
from prefect.client.schemas.objects import FlowRun
from prefect.workers.process import ProcessWorker

from linkspan.local.home import Home
from linkspan.local.tether import WARM
from linkspan.local.wake import WAKE, WAKES, listen

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # Prefect says that this takes the place of its own

    class Worker(ProcessWorker):
        """The worker of the type `process` in this interpreter."""

        type = "process"

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._looking = asyncio.Lock()

        async def __aenter__(self) -> Self:
            await super().__aenter__()
            self._listening = asyncio.create_task(self._listening_to(Path(os.environ[WAKE])))
            return self

        async def __aexit__(self, *reason: Any) -> None:
            self._listening.cancel()
            try:
                with suppress(asyncio.CancelledError):
                    await self._listening
            finally:
                await super().__aexit__(*reason)

        async def get_and_submit_flow_runs(self) -> list[FlowRun]:
            async with self._looking:  # else two looks would find the same run
                return await super().get_and_submit_flow_runs()

        async def _listening_to(self, folder: Path) -> None:
            try:
                if WAKES:
                    await self._listen(folder)
            except OSError as error:
                self._logger.warning("Nobody can tell this worker of runs, it looks once a second: %s", error)

        async def _listen(self, folder: Path) -> None:
            heard = asyncio.Event()
            with listen(folder) as line:

                def hear() -> None:
                    with suppress(BlockingIOError):  # emptied at once, or the loop comes here again and again
                        while True:
                            line.recv(1)
                    heard.set()

                asyncio.get_running_loop().add_reader(line, hear)
                try:
                    while True:
                        await heard.wait()
                        heard.clear()
                        await self._look()
                finally:
                    asyncio.get_running_loop().remove_reader(line)

        async def _look(self) -> None:
            try:
                await self.get_and_submit_flow_runs()
            except httpx.HTTPError:
                pass  # a server that is away is the next look's business: that one waits longer and longer
            except Exception as error:  # noqa: BLE001 whatever it is, the next one who tells is heard
                self._logger.warning("Looking for a run failed: %s: %s", type(error).__name__, error)


def _ours() -> str:
    """The folder that is looked for where nobody names one."""
    home = Home.default()
    home.create()
    home.warm.mkdir(mode=0o700, exist_ok=True)
    return str(home.warm)


def main() -> None:
    # Runs inherit it: a stream tells the worker when it has started the release.
    if not os.environ.get(WAKE):
        os.environ[WAKE] = os.environ.get(WARM) or _ours()
    sys.argv[1:] = ["worker", "start", "--type", Worker.type, *sys.argv[1:]]
    app()


if __name__ == "__main__":
    main()
