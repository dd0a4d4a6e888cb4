"""Clocks that are wrong, as on another machine: for Linkspan's own code, and for git's commits."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo

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

    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] in {"linkspan", "flows"} and getattr(module, "datetime", None) is datetime:
                patch.setattr(module, "datetime", Wrong)
        yield
