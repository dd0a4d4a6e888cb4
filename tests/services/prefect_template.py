"""Databases of Prefect servers that were set up before: a copy saves a server most of its start.

They are made when they are first wanted, and anew when anything changes that goes into them.
"""

import fcntl
import hashlib
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".linkspan" / "prefect"
FLOWS_FILE = ROOT / "tests/flows/engine_flows.yaml"
# The database, and what the server notes of the blocks that it has registered.
FILES = ("prefect.db", "memo_store.toml")


def lay(name: str, home: Path, make: Callable[[Path], None]) -> None:
    """Put a copy into a server's home. `make` runs a server in a home that it is given, and stops it."""
    KEPT.mkdir(parents=True, exist_ok=True)
    kept = KEPT / f"{name}-{_fingerprint(name)}"
    with (KEPT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            for old in KEPT.glob(f"{name}-*"):
                shutil.rmtree(old)
            new = KEPT / f"new-{name}-{os.getpid()}"
            shutil.rmtree(new, ignore_errors=True)
            make(new)
            _close(new / "prefect.db")
            new.rename(kept)
    home.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        if (kept / file).exists():
            shutil.copyfile(kept / file, home / file)


def _fingerprint(name: str) -> str:
    digest = hashlib.sha256(f"{ROOT} {sys.executable}".encode())
    for path in [ROOT / "requirements-dev.lock", *(sorted(_sources()) if name == "flows" else ())]:
        digest.update(f"{path}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _sources() -> Iterable[Path]:
    for package in ("blocks", "flows", "linkspan", "tests/flows"):
        yield from (ROOT / package).rglob("*.py")
    yield FLOWS_FILE


def _close(database: Path) -> None:
    """What is in the log goes into the file itself; and what was scheduled is not late for ever."""
    connection = sqlite3.connect(database)
    try:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("DELETE FROM flow_run")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
