"""Clocks that are wrong, as on another machine: for Linkspan's own code, and for git's commits."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from types import ModuleType
from typing import Any

import pytest

DAY = timedelta(days=1)


class _Real(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


@contextmanager
def skewed(by: timedelta) -> Iterator[None]:
    """In the block all of Linkspan reads the time from a clock that is wrong by so much, others do not."""

    class Wrong(datetime, metaclass=_Real):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + by

    class WrongTime(ModuleType):
        def time(self) -> float:
            return time.time() + by.total_seconds()

        def __getattr__(self, name: str) -> Any:
            return getattr(time, name)

    wrong = {"datetime": (datetime, Wrong), "time": (time, WrongTime("time"))}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] in {"linkspan", "flows"}:
                for used, (right, instead) in wrong.items():
                    if getattr(module, used, None) is right:
                        patch.setattr(module, used, instead)
        yield
