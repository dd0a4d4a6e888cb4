"""`prefect server start` whose garbage is collected in a thread of its own, and which asks again (again.py).

On SQLite a Prefect server stands still for a minute now and then, the busier the machine the more often.
SQLite holds a connection's mutex while that connection, in its thread of aiosqlite, waits for another one to
finish writing: for up to 60 s, as Prefect sets it (sqlite3_busy_timeout). When Python collects garbage in the
thread of the event loop just then, and a cursor of that connection is among it, the loop waits for the mutex,
and who is to finish writing waits for the loop. In another thread the collection waits alone, not for long.
"""

import gc
import runpy
import sys
import threading

import uvicorn

from linkspan.local.again import Again

START = ("-m", "linkspan.local.server")
"""What Python runs it by."""
PAUSE = 0.1
"""Seconds between two looks at what has gathered."""
LOOKS_PER_FULL = 600
"""At least so many looks lie between two collections of all there is: it takes a large part of a second."""


def collect_aside() -> threading.Thread:
    """From now on garbage is collected in the thread that is returned, and in no other; it ends with us."""
    gc.disable()
    thread = threading.Thread(target=_collect, name="garbage", daemon=True)
    thread.start()
    return thread


def _collect() -> None:
    never = threading.Event()
    looks = 0
    while not never.wait(PAUSE):
        looks += 1
        due = [count > limit for count, limit in zip(gc.get_count(), gc.get_threshold(), strict=True)]
        if due[2] and looks >= LOOKS_PER_FULL:
            gc.collect()
            looks = 0
        elif due[1]:
            gc.collect(1)
        elif due[0]:
            gc.collect(0)


def ask_again() -> None:
    """From now on what uvicorn serves in this process is an `Again`."""
    load = uvicorn.Config.load

    def loaded(config: uvicorn.Config) -> None:
        load(config)
        config.loaded_app = Again(config.loaded_app)

    uvicorn.Config.load = loaded  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    collect_aside()
    ask_again()
    sys.argv = ["prefect", "server", "start", *sys.argv[1:]]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)
