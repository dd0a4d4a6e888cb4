"""The real flows with a trap before and after each of their steps, for a worker of the tests.

A file `before <module> <step>` or `after …` in LINKSPAN_E2E_TRAPS kills the process there, once.
"""

import os
import signal
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from prefect import Task

from flows import app_stream as app_module
from flows import build_and_deploy as release_module
from flows import code_steps, model_steps, release_steps
from flows import model_stream as model_module

TRAPS = "LINKSPAN_E2E_TRAPS"


def _trap(name: str) -> None:
    folder = os.environ.get(TRAPS, "")
    path = Path(folder, name)
    if folder and path.exists():
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


def _set_traps(module: ModuleType) -> None:
    for name, value in list(vars(module).items()):
        if isinstance(value, Task) or name == "start":
            setattr(module, name, _trapped(f"{module.__name__.rpartition('.')[2]} {name}", value))


if TRAPS in os.environ:
    for each in (code_steps, model_steps, release_steps, app_module, model_module, release_module):
        _set_traps(each)

app_stream = app_module.app_stream
model_stream = model_module.model_stream
build_and_deploy = release_module.build_and_deploy
