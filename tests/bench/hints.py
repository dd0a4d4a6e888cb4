"""How long it takes from a webhook's first byte to the first line of the flow that it starts.

Everything is as `linkspan up` has it at its defaults, with a webhook of GitHub's form over loopback. Hints
come one after the other, at random moments: the worker asks for work every second, and a second hint within
two seconds would wait for those two (linkspan/webhooks/inbox/starter.py).
"""

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from linkspan.local.services import Local
from linkspan.prefect_api.values import Run
from linkspan.processes import free_port
from linkspan.webhooks.inbox.starter import GATHER_SECONDS
from tests.bench.figures import Figure, Say
from tests.bench.hint_flow import hinted
from tests.services.postgres import running_postgres
from tests.waiting import until
from tests.webhooks.serving import SECRET, headers, push

ROUNDS = 20
ROOT = Path(__file__).parents[2]
DEPLOYMENT = "bench-hint/bench"
ROUTE = "/hooks/bench"

SENT, ANSWERED, STORED = "sent", "kept on disk, the sender has its 202", "the run is stored in Prefect"
CLAIMED, FIRST_LINE = "the worker claims it", "the flow's first line"

Moments = dict[str, float]
"""When each step was done, in seconds since the epoch; all clocks are this machine's."""


def measure(say: Say) -> list[Figure]:
    """With SQLite, as it is when nothing is said, and with PostgreSQL."""
    found = _figures("A webhook, SQLite", say, None)
    try:
        with running_postgres() as database:
            found += _figures("A webhook, PostgreSQL", say, database)
    except pytest.fail.Exception as missing:
        say(f"skipped: {missing}")
    return found


def _figures(group: str, say: Say, database: SecretStr | None) -> list[Figure]:
    load = os.getloadavg()[0]
    with _up(say, database) as (local, folder), httpx.Client(timeout=20) as client:
        other = push(branch="another")
        until(
            lambda: client.post(local.hooks_url + ROUTE, content=other, headers=headers(other)).is_success,
            what="the route answers",
        )
        _hint(local, client, folder)  # the first one compiles and connects
        rounds = []
        for number in range(ROUNDS):
            time.sleep(GATHER_SECONDS + random.uniform(0, 2))
            rounds.append(_hint(local, client, folder))
            say(f"{number + 1}: {rounds[-1][FIRST_LINE] - rounds[-1][SENT]:.2f} s")
    steps = [
        Figure(group, name, [each[name] - each[before] for each in rounds])
        for before, name in pairwise(rounds[0])
    ]
    whole = [each[FIRST_LINE] - each[SENT] for each in rounds]
    others = Figure(group, "load of this machine: before, after", [load, os.getloadavg()[0]], "")
    return [*steps, others, Figure(group, f"in all: {FIRST_LINE}", whole, total=True)]


@contextmanager
def _up(say: Say, database: SecretStr | None) -> Iterator[tuple[Local, Path]]:
    """What `linkspan up` starts, with a deployment of our flow, and a route to it that answers."""
    with tempfile.TemporaryDirectory(prefix="linkspan-bench-") as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # the flow is in no package that is installed
        folder = Path(name)
        file = folder / "prefect.yaml"
        file.write_text(yaml.safe_dump(_prefect_file(folder)))
        home, hooks = folder / "home", ("127.0.0.1", free_port())
        with Local(
            home, port=free_port(), hooks=hooks, database_url=database, prefect_file=file, say=say
        ) as local:
            block = {"provider": "github", "secret": SECRET, "start": [DEPLOYMENT]}
            local.server.save_block("webhook-source/bench", block)
            settings = {PREFECT_API_URL: local.api_url, PREFECT_API_AUTH_STRING: local.home.auth()}
            with temporary_settings(settings):
                yield local, folder


def _prefect_file(folder: Path) -> dict[str, object]:
    deployment = {
        "name": "bench",
        "entrypoint": f"{hinted.fn.__module__}.{hinted.fn.__name__}",
        "flow_name": hinted.name,
        "tags": ["linkspan"],
        "parameters": {"folder": str(folder)},
        "work_pool": {"name": "linkspan", "work_queue_name": "bench-hint"},
    }
    return {"pull": [], "deployments": [deployment]}


def _hint(local: Local, client: httpx.Client, folder: Path) -> Moments:
    """One webhook, until its run has ended."""
    (folder / "first-line").unlink(missing_ok=True)
    word = uuid4().hex
    body = push(word)
    sent = time.time()
    client.post(local.hooks_url + ROUTE, content=body, headers=headers(body)).raise_for_status()
    answered = time.time()
    # Until the flow has run nobody asks the server anything that it would not be asked otherwise.
    until((folder / "first-line").exists, what="the flow's first line")

    def ended() -> list[Run]:
        found = local.server.recent_runs(DEPLOYMENT, limit=3)
        return [run for run in found if run.final and word in run.parameters["hint"]]

    [run] = until(ended, what="the end of its run")
    return {
        SENT: sent,
        ANSWERED: answered,
        STORED: run.created.timestamp(),
        CLAIMED: asyncio.run(_claimed(run.id)),
        FIRST_LINE: float((folder / "first-line").read_text()),
    }


async def _claimed(run_id: str) -> float:
    """When the worker took the run: until then it was Scheduled."""
    async with get_client() as client:
        states = await client.read_flow_run_states(UUID(run_id))
    return min(state.timestamp.timestamp() for state in states if state.is_pending())
