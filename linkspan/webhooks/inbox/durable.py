"""The durable inbox: a hint is on disk before its sender hears so, and each batch of them starts one run.

One SQLite file and one thread that writes to it. Whatever arrives while the disk is busy is committed
together, so that a storm costs a few flushes, not one for each hint. A batch is written down before its run
is asked for: whoever is killed in between asks again with the same idempotency key, which the server knows.
"""

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from linkspan.errors import InboxUnavailable
from linkspan.prefect_api.values import RunRef
from linkspan.webhooks.base import Hint
from linkspan.webhooks.inbox.file import FILE, hold, identity, open_database, put_back

KEEP_SECONDS = 30 * 86_400.0
GROUP = 1000
MOST_WAITING = 20_000
CLOSE_SECONDS = 30.0


@dataclass(frozen=True)
class Batch:
    """Hints that start one run of a deployment. `key` is the run's idempotency key, the same for ever."""

    number: int
    deployment: str
    text: str
    hints: int
    key: str


@dataclass(frozen=True)
class _Job:
    work: Callable[[sqlite3.Connection], Any]
    future: "Future[Any]"


class Inbox:
    """The inbox in a folder, held by one process at a time. Close it after use.

    All calls but `close` return a future, whose result is there when it is on disk. It raises
    InboxUnavailable (retriable) when the disk is full or broken: nothing of that call was kept then.
    `arrived` is told the deployments for which there is something new, from the thread that writes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        arrived: Callable[[set[str]], None] = lambda _deployments: None,
        say: Callable[[str], None] = lambda _line: None,
        patience: float = 10.0,
    ) -> None:
        self.folder = folder
        self.arrived = arrived
        self._say = say
        self._lock = hold(folder, patience)
        try:
            # Only the thread that writes uses it once that runs.
            self._database = open_database(folder / FILE, say)
            self._identity = identity(folder / FILE)
        except BaseException:
            os.close(self._lock)
            raise
        self.id: str = self._database.execute("SELECT value FROM facts WHERE name = 'id'").fetchone()[0]
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._write, name="inbox", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what waits, then let go of the file. May be called twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._jobs.put(None)
        self._thread.join(CLOSE_SECONDS)
        os.close(self._lock)

    def put(
        self, source: str, deployments: Sequence[str], hints: Sequence[Hint], at: datetime
    ) -> "Future[tuple[Hint, ...]]":
        """Keep hints of a source for deployments; the result are those that were new.

        The same key of the same source is one hint for 30 days. Told again it starts something only where
        its start was refused before, so that "redeliver" helps once that was mended.
        """
        rows = [
            (_text(source), _text(hint.key), _text(deployment), _text(hint.text), at.timestamp())
            for hint in hints
            for deployment in deployments
        ]

        def work(database: sqlite3.Connection) -> tuple[set[str], tuple[Hint, ...]]:
            fresh: set[str] = set()
            keys: set[str] = set()
            for row in rows:
                if _insert(database, row):
                    keys.add(row[1])
                    fresh.add(row[2])
            return fresh, tuple(hint for hint in hints if _text(hint.key) in keys)

        result: Future[tuple[Hint, ...]] = Future()

        def told(written: "Future[tuple[set[str], tuple[Hint, ...]]]") -> None:
            if error := written.exception():
                result.set_exception(error)
                return
            fresh, new = written.result()
            if fresh:
                self.arrived(fresh)
            result.set_result(new)

        # Once it waits to be written nobody can call it back: what is kept is also told to the starter.
        result.set_running_or_notify_cancel()
        self._do(work).add_done_callback(told)
        return result

    def waiting(self) -> "Future[list[str]]":
        """Deployments with hints that are in no batch yet, the longest waiting first."""
        query = "SELECT deployment FROM hints WHERE batch IS NULL GROUP BY deployment ORDER BY min(number)"
        return self._do(lambda database: [row[0] for row in database.execute(query)])

    def unfinished(self) -> "Future[list[Batch]]":
        """Batches whose run was perhaps asked for: ask again."""
        query = "SELECT number, deployment, text, hints FROM batches WHERE state = 'asked' ORDER BY number"
        return self._do(lambda database: [self._batch(*row) for row in database.execute(query)])

    def take(self, deployment: str) -> "Future[Batch | None]":
        """Put all that waits for a deployment into one batch, and write that down; None if nothing waits."""

        def work(database: sqlite3.Connection) -> Batch | None:
            count, newest = database.execute(
                "SELECT count(*), max(number) FROM hints WHERE deployment = ? AND batch IS NULL",
                (deployment,),
            ).fetchone()
            if not count:
                return None
            text = database.execute("SELECT text FROM hints WHERE number = ?", (newest,)).fetchone()[0]
            if count > 1:
                text = f"{text} (and {count - 1} more)"
            number = database.execute(
                "INSERT INTO batches (deployment, text, hints, made) VALUES (?, ?, ?, ?)",
                (deployment, text, count, time.time()),
            ).lastrowid
            database.execute(
                "UPDATE hints SET batch = ? WHERE deployment = ? AND batch IS NULL", (number, deployment)
            )
            return self._batch(number or 0, deployment, text, count)

        return self._do(work)

    def started(self, batch: Batch, run: RunRef) -> "Future[None]":
        """The run of a batch is stored at the server."""
        return self._end(batch, "started", run.id, run.name, run.url, "")

    def failed(self, batch: Batch, reason: str) -> "Future[None]":
        """The server refused the run, and no retry would mend that."""
        return self._end(batch, "failed", "", "", "", _text(reason)[:1000])

    def texts(self, batch: Batch, most: int) -> "Future[list[tuple[str, str]]]":
        """Source and text of the first hints of a batch."""
        query = "SELECT source, text FROM hints WHERE batch = ? ORDER BY number LIMIT ?"
        return self._do(lambda database: list(database.execute(query, (batch.number, most))))

    def beat(self) -> "Future[None]":
        """Write something, as the proof that it can be done."""

        def work(database: sqlite3.Connection) -> None:
            database.execute("UPDATE facts SET value = ? WHERE name = 'beat'", (str(time.time()),))

        return self._do(work)

    def forget(self, before: datetime | None = None) -> "Future[int]":
        """Remove what ended more than 30 days ago; how many hints. Some thousands in one call at most."""
        limit = before.timestamp() if before else datetime.now(UTC).timestamp() - KEEP_SECONDS

        def work(database: sqlite3.Connection) -> int:
            ended = (
                "SELECT h.number FROM hints h JOIN batches b ON b.number = h.batch "
                "WHERE h.received < ? AND b.state != 'asked' LIMIT 5000"
            )
            gone = database.execute(f"DELETE FROM hints WHERE number IN ({ended})", (limit,)).rowcount  # noqa: S608
            empty = "SELECT batch FROM hints WHERE batch IS NOT NULL"
            database.execute(
                f"DELETE FROM batches WHERE made < ? AND state != 'asked' AND number NOT IN ({empty})",  # noqa: S608
                (limit,),
            )
            return gone

        return self._do(work)

    def _end(self, batch: Batch, state: str, *fields: str) -> "Future[None]":
        def work(database: sqlite3.Connection) -> None:
            database.execute(
                "UPDATE batches SET state = ?, run_id = ?, run_name = ?, run_url = ?, reason = ?, ended = ? "
                "WHERE number = ?",
                (state, *fields, time.time(), batch.number),
            )

        return self._do(work)

    def _batch(self, number: int, deployment: str, text: str, hints: int) -> Batch:
        # With the inbox's own ID: a new inbox counts from 1 again, and the server remembers old keys.
        return Batch(number, deployment, text, hints, f"hints:{self.id}:{number}")

    # The thread that writes

    def _do(self, work: Callable[[sqlite3.Connection], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        if self._closed.is_set():
            future.set_exception(InboxUnavailable("the inbox is closed"))
        elif self._jobs.qsize() > MOST_WAITING:
            future.set_exception(InboxUnavailable("more hints wait to be written than the disk can take"))
        else:
            self._jobs.put(_Job(work, future))
        return future

    def _write(self) -> None:
        open_for_more = True
        while open_for_more:
            group = [self._jobs.get()]
            while len(group) < GROUP and not self._jobs.empty():
                group.append(self._jobs.get())
            open_for_more = None not in group
            self._commit([job for job in group if job and job.future.set_running_or_notify_cancel()])
        self._database.close()

    def _commit(self, jobs: list[_Job]) -> None:
        try:
            self._stay()
            self._database.execute("BEGIN IMMEDIATE")
            results = [job.work(self._database) for job in jobs]
            self._database.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - a thread that ended here would leave all waiting, unseen
            if self._database.in_transaction:
                self._database.rollback()
            reason = InboxUnavailable(
                f"the inbox in {self.folder} cannot be written: {error}",
                fix="Is the disk full? Senders try again meanwhile",
            )
            for job in jobs:
                job.future.set_exception(reason)
        else:
            for job, result in zip(jobs, results, strict=True):
                job.future.set_result(result)

    def _stay(self) -> None:
        """See to it that the file is still at its place: what is written into a removed one is gone one day.

        Raises OSError or ConfigError if that cannot be had.
        """
        file = self.folder / FILE
        if (found := identity(file)) == self._identity:
            return
        if found:
            raise FileExistsError(f"{file} was replaced by another while it was in use; restart the receiver")
        lock = hold(self.folder, 0)
        os.close(self._lock)
        self._lock = lock
        self._database = put_back(self._database, file, self._say)
        self._identity = identity(file)


def _insert(database: sqlite3.Connection, row: tuple[str, str, str, str, float]) -> bool:
    """Whether the hint now waits and did not before."""
    inserted = database.execute(
        "INSERT INTO hints (source, key, deployment, text, received) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        row,
    )
    if inserted.rowcount == 1:
        return True
    again = database.execute(
        "UPDATE hints SET batch = NULL WHERE source = ? AND key = ? AND deployment = ? "
        "AND batch IN (SELECT number FROM batches WHERE state = 'failed')",
        row[:3],
    )
    return again.rowcount == 1


def _text(text: str) -> str:
    """What SQLite can keep: lone surrogates have no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
