"""The real flows with a trap before and after each of their steps, for a worker of the tests.

A file in LINKSPAN_E2E_TRAPS/<app> kills a run of that app there, once. Its name says where: `before <module>
<step>` or `after …`; `said <words>`, before a line with them gets into a rollout's log; `before marked
<state>`, before the cluster hears what became of a revision; `before rejected`, before the registry hears
that it is bad.

`python -m tests.e2e.killable PARAMETERS` is one run of build-and-deploy, as by a worker that dies with it; it
says how the run ended.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from prefect import Task
from prefect.context import FlowRunContext

from flows import app_stream as app_module
from flows import build_and_deploy as release_module
from flows import code_steps, model_steps, release_steps
from flows import model_stream as model_module
from flows.support import say
from linkspan.ledger.verdicts import note
from linkspan.nouns import Revision
from linkspan.progress import Say
from linkspan.release import steps
from linkspan.runtimes.kubernetes.marks import State
from linkspan.runtimes.kubernetes.service import KubeService

TRAPS = "LINKSPAN_E2E_TRAPS"


def _traps() -> Path:
    """Those of the app whose run this is."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    return Path(os.environ[TRAPS], context.flow_run.parameters["app"])


def _trap(name: str) -> None:
    path = _traps() / name
    if path.exists():
        path.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def _trapped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(call)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        _trap(f"before {name}")
        result = await call(*args, **kwargs)
        _trap(f"after {name}")
        return result

    return wrapper


def _trapped_say() -> Say:
    write = say()

    def line(text: str) -> None:
        for path in _traps().glob("said *"):
            if path.name.removeprefix("said ") in text:
                _trap(path.name)
        write(text)

    return line


def _trapped_mark(service: KubeService, revision: Revision, state: State) -> None:
    _trap(f"before marked {state}")
    _mark(service, revision, state)


def _trapped_note(*args: Any, **kwargs: Any) -> bool:
    _trap("before rejected")
    return note(*args, **kwargs)


def _set_traps(module: ModuleType) -> None:
    for name, value in list(vars(module).items()):
        if isinstance(value, Task) or name == "start":
            setattr(module, name, _trapped(f"{module.__name__.rpartition('.')[2]} {name}", value))


if TRAPS in os.environ:
    for each in (code_steps, model_steps, release_steps, app_module, model_module, release_module):
        _set_traps(each)
    _mark = KubeService.mark
    for owner, name, trapped in (
        (release_steps, "say", _trapped_say),
        (steps, "note", _trapped_note),
        (KubeService, "mark", _trapped_mark),
    ):
        setattr(owner, name, trapped)

app_stream = app_module.app_stream
model_stream = model_module.model_stream
build_and_deploy = release_module.build_and_deploy


async def main(parameters: dict[str, Any]) -> None:
    state = await build_and_deploy(**parameters, return_state=True)
    sys.stdout.write(f"{state.name}\n")


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
