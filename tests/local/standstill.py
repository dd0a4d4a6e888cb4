"""What makes a Prefect server on SQLite stand still: `python -m … FOLDER SECONDS [aside]` says for how long.

A connection waits in its thread for another to finish writing, for at most SECONDS. A cursor of it is
garbage, and is collected before the other one finishes; `aside`: as linkspan/local/server.py does it.
"""

import sqlite3
import sys
import threading
import time
from pathlib import Path

from linkspan.local.server import collect_aside


def standstill(file: Path, seconds: float) -> float:
    """Seconds that this thread spent on making objects, which it should not spend on waiting."""
    writes, waits = (
        sqlite3.connect(file, timeout=seconds, isolation_level=None, check_same_thread=False)
        for _ in range(2)
    )
    writes.execute("PRAGMA journal_mode = WAL")
    writes.execute("CREATE TABLE t (x)")
    cycle: list[object] = [waits.execute("SELECT 1 UNION ALL SELECT 2")]
    cycle.append(cycle)
    writes.execute("BEGIN IMMEDIATE")
    thread = threading.Thread(target=waits.execute, args=["INSERT INTO t VALUES (1)"])
    thread.start()
    time.sleep(0.5)  # nothing tells that it waits
    del cycle
    begin = time.monotonic()
    while time.monotonic() - begin < 1:
        [[] for _ in range(10_000)]
    found = time.monotonic() - begin
    writes.execute("COMMIT")
    thread.join()
    return found


if __name__ == "__main__":
    if "aside" in sys.argv:
        collect_aside()
    sys.stdout.write(f"{standstill(Path(sys.argv[1]) / 'db', float(sys.argv[2]))}\n")
