"""The inbox's SQLite file: its tables, opening it, and setting one aside that cannot be read."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from linkspan.errors import ConfigError, InboxUnavailable

FILE = "inbox.db"
VERSION = 1

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE batches (
    number INTEGER PRIMARY KEY AUTOINCREMENT, deployment TEXT NOT NULL, text TEXT NOT NULL,
    hints INTEGER NOT NULL, made REAL NOT NULL, state TEXT NOT NULL DEFAULT 'asked',
    run_id TEXT NOT NULL DEFAULT '', run_name TEXT NOT NULL DEFAULT '', run_url TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '', ended REAL);
CREATE TABLE hints (
    number INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, key TEXT NOT NULL,
    deployment TEXT NOT NULL, text TEXT NOT NULL, received REAL NOT NULL,
    batch INTEGER REFERENCES batches, UNIQUE (source, key, deployment));
CREATE INDEX waiting ON hints (deployment, number) WHERE batch IS NULL;
CREATE INDEX in_batch ON hints (batch);
CREATE INDEX unfinished ON batches (number) WHERE state = 'asked';
CREATE INDEX received ON hints (received);
"""


@dataclass(frozen=True)
class Arrival:
    """A hint for a deployment as the inbox remembers it.

    `state` is `waiting`, `asked` (the server has not answered yet), `started` or `failed`, and `reason` says
    of what.
    """

    source: str
    text: str
    deployment: str
    received: datetime
    state: str
    run_id: str
    run_name: str
    run_url: str
    reason: str


def recent(folder: Path, most: int = 20) -> list[Arrival]:
    """The newest hints of the inbox in `folder`, newest first; none if there is no inbox.

    For other processes than the receiver: it only reads. Raises InboxUnavailable if that cannot be done.
    """
    query = (
        "SELECT h.source, h.text, h.deployment, h.received, coalesce(b.state, 'waiting'), "
        "coalesce(b.run_id, ''), coalesce(b.run_name, ''), coalesce(b.run_url, ''), coalesce(b.reason, '') "
        "FROM hints h LEFT JOIN batches b ON b.number = h.batch ORDER BY h.number DESC LIMIT ?"
    )
    file = folder / FILE
    if not file.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as database:
            rows = database.execute(query, (most,)).fetchall()
    except sqlite3.Error as error:
        raise InboxUnavailable(f"the inbox in {folder} cannot be read: {error}") from None
    return [
        Arrival(source, text, deployment, datetime.fromtimestamp(received, UTC), *rest)
        for source, text, deployment, received, *rest in rows
    ]


def hold(folder: Path, patience: float) -> int:
    """Make the folder and lock it; the descriptor that holds the lock. Raises ConfigError.

    Waits a little: when a service restarts, the old process may still be ending.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot hold the inbox: {error.strerror}", fix="Name another with --inbox"
        ) from None
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(descriptor)
                raise ConfigError(
                    f"another receiver uses the inbox in {folder}",
                    expected="one process for each inbox",
                    fix="Stop it, or name another folder with --inbox. Start one worker process only: it is "
                    "quick enough for thousands of hints a second",
                ) from None
            time.sleep(0.05)
        else:
            return descriptor


def open_database(file: Path, say: Callable[[str], None]) -> sqlite3.Connection:
    """The database, made if it is not there. One that is broken is set aside, and a new one is begun.

    Raises ConfigError where no file can be made or read at all.
    """
    with _as_config_error(file):
        try:
            return _open(file)
        except sqlite3.OperationalError:
            raise  # no right to it, disk full: setting it aside would mend nothing
        except sqlite3.DatabaseError as error:
            aside = file.with_name(f"{file.name}.broken-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:6]}")
            for suffix in ("", "-wal", "-shm"):
                if (part := file.with_name(file.name + suffix)).exists():
                    part.rename(aside.with_name(aside.name + suffix))
            say(
                f"THE INBOX {file} WAS BROKEN ({error}) and is now {aside.name}; a new one is begun. What "
                "its hints told of is found by the schedules of the deployments, within minutes"
            )
            return _open(file)


def identity(file: Path) -> tuple[int, int] | None:
    """What tells this file from another of its name; None if there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def put_back(kept: sqlite3.Connection, file: Path, say: Callable[[str], None]) -> sqlite3.Connection:
    """Write a database whose file was removed into a new one of that name, and close it; returns the new one.

    Raises sqlite3.Error, OSError or ConfigError if that cannot be done; then there is no new one.
    """
    fresh = open_database(file, say)
    try:
        kept.backup(fresh)
    except BaseException:
        fresh.close()
        file.unlink()
        raise
    kept.close()
    say(f"THE INBOX {file} WAS REMOVED while it was in use; it is there again, with all that it held")
    return fresh


@contextmanager
def _as_config_error(file: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(
            f"the inbox {file} cannot be opened: {error}", fix="Name another folder with --inbox"
        ) from None


def _open(file: Path) -> sqlite3.Connection:
    # SQLite gives the files beside it the same mode.
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(file, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        # A commit is on the disk when it returns, also if the power fails then.
        database.execute("PRAGMA synchronous = FULL")
        if (found := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(str(found))
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            facts = f"('id', '{uuid4().hex}'), ('beat', '')"
            database.executescript(
                f"BEGIN; {_TABLES} INSERT INTO facts VALUES {facts};"  # noqa: S608 - nothing from outside
                f"PRAGMA user_version = {VERSION}; COMMIT;"
            )
        elif version != VERSION:
            raise ConfigError(
                f"the inbox {file} was made by a newer Linkspan",
                expected=f"version {VERSION}",
                found=version,
                fix="Update Linkspan, or name another folder with --inbox",
            )
    except BaseException:
        database.close()
        raise
    return database
