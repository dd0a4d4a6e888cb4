"""Thousands of hints in seconds, through the real receiver and a real Prefect server, to their end."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from linkspan.webhooks.inbox.file import recent
from tests.effort import effort
from tests.services.prefect_server import PrefectServer
from tests.waiting import Patience, until
from tests.webhooks.inbox import storm, storm_sender
from tests.webhooks.inbox.storm_sender import Newest
from tests.webhooks.process import ROOT, fields, routes_file, serving

DUPLICATES = 0.3

pytestmark = [pytest.mark.slow, pytest.mark.calm, pytest.mark.needs("prefect"), pytest.mark.timeout(1800)]


def all_started(inbox: Path, count: int) -> bool:
    """Whether each hint that was taken has its run."""
    return {each.state for each in recent(inbox, count)} == {"started"}


def memory(pid: int) -> int:
    """MB that a process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


@pytest.mark.parametrize(
    ("backend", "keys", "count"),
    [
        pytest.param(
            *("postgres", effort(20, 100), effort(2_000, 10_000)),
            marks=pytest.mark.needs("postgres"),
            id="postgres",
        ),
        pytest.param("sqlite", 5, effort(50, 200), id="sqlite"),
    ],
)
async def test_every_key_ends_at_its_newest_state(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str, keys: int, count: int
) -> None:
    database: SecretStr | None = request.getfixturevalue("postgres") if backend == "postgres" else None
    server = PrefectServer(tmp_path / "prefect", database=database)
    await asyncio.to_thread(server.start)
    try:
        with temporary_settings({PREFECT_API_URL: server.api_url, PREFECT_API_AUTH_STRING: server.auth}):
            await _storm(server, tmp_path, keys, count)
            await APILogHandler.aflush()
    finally:
        server.stop()


async def _storm(server: PrefectServer, folder: Path, keys: int, count: int) -> None:
    newest = Newest(folder / "newest", keys)
    sources = storm.SOURCES = storm.Sources(newest)
    await storm.deploy(range(keys))
    routes = {f"key-{key}": fields(f"{storm.FLOW}/key-{key}") for key in range(keys)}
    stop = asyncio.Event()
    with serving(folder, {**os.environ, **server.env}, routes_file(folder, routes)) as receiver:
        assert receiver.child
        before = memory(receiver.child.pid)
        worker = asyncio.create_task(storm.work(stop))
        begin = time.monotonic()
        sender = ["-m", storm_sender.__name__, str(receiver.port), str(keys), str(count), str(DUPLICATES)]
        child = await asyncio.create_subprocess_exec(
            sys.executable, *sender, str(folder / "newest"), cwd=ROOT, stdout=subprocess.PIPE
        )
        told, _ = await child.communicate()
        sent = time.monotonic() - begin
        statuses = {int(status): times for status, times in json.loads(told).items()}
        assert sum(statuses.values()) == count
        assert set(statuses) <= {200, 202}, statuses
        # Builds take longer than the storm; then everything must end by itself.
        await asyncio.to_thread(until, lambda: all_started(folder / "inbox", count), 1200)
        sources.calm.set()
        final = {key: newest[key] for key in range(keys)}
        assert min(final.values()) > 0
        patience = Patience()
        while {key: built[-1] for key, built in sources.built.items()} != final:
            assert not sources.errors, sources.errors
            patience.look(str(sources.built), f"{sources.built} is not {final}")
            await asyncio.sleep(0.2)
        converged = time.monotonic() - begin
        after = memory(receiver.child.pid)
        stop.set()
        await worker
    # A run that starts when all is built finds nothing new, and a real one builds nothing then.
    superseded = [len(set(built) - {final[key]}) for key, built in sources.built.items()]
    print(  # noqa: T201 figures for whoever looks
        f"{count} hints in {sent:.1f} s; all of {keys} keys at their newest after {converged:.1f} s, "
        f"{sum(superseded)} builds were superseded, at most {max(superseded)} of a key; "
        f"receiver {before} → {after} MB"
    )
    assert sources.errors == []
    assert max(superseded) <= 1
    assert after - before < 60
    assert "Traceback" not in receiver.log
    assert "NOT started" not in receiver.log
    if server.database is not None:
        assert "database is locked" not in server.child.log.read_text()
