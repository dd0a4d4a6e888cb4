"""A burst of webhooks while the Prefect server is killed again and again: each is one run, none is lost.

Everything is real: `linkspan serve`, its inbox, and a server that comes back with its port and its database.
"""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from linkspan.webhooks.inbox.file import recent
from tests.effort import effort
from tests.flows.engine_flows import scheduled
from tests.services.prefect_server import PrefectServer
from tests.waiting import until
from tests.webhooks.process import Serving, environment, fields, routes_file, serving
from tests.webhooks.serving import push

ENDS = [signal.SIGKILL, signal.SIGTERM] * effort(2, 5)
BEFORE, DURING = 8, 2
"""Hints that arrive before each kill, and while the server is away."""
STARTED = 3
"""Runs that are stored between two kills at least, so that each kill is in the middle of it."""
SPARE = 4
"""Bursts more, for those that are over before they are killed: a machine may stand still just then."""
HINTS = (BEFORE + DURING) * (len(ENDS) + SPARE)
"""At most."""

pytestmark = [pytest.mark.slow, pytest.mark.calm, pytest.mark.timeout(1800)]


@pytest.fixture
def server(tmp_path: Path, postgres: SecretStr) -> Iterator[PrefectServer]:
    with (
        PrefectServer(tmp_path / "prefect", database=postgres).running() as made,
        temporary_settings({PREFECT_API_URL: made.api_url, PREFECT_API_AUTH_STRING: made.auth}),
    ):
        yield made


def test_killed_again_and_again_in_a_burst_every_hint_is_one_run(
    server: PrefectServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each hint has a route and a deployment of its own: those of one deployment may share a run."""
    names = [f"killed-{uuid4().hex[:8]}-{number}" for number in range(HINTS)]
    ids = asyncio.run(deploy(names))
    routes = {f"git-{number}": fields(f"{scheduled.name}/{name}") for number, name in enumerate(names)}
    env = environment(tmp_path, server.api_url, server.auth.get_secret_value())
    told: list[Future[int]] = []
    stored = [0]
    with (
        serving(tmp_path, env, routes_file(tmp_path, routes)) as receiver,
        ThreadPoolExecutor(4) as pool,
    ):

        def tell(hints: int) -> None:
            for number in range(len(told), len(told) + hints):
                told.append(pool.submit(receiver.call, push(number), f"git-{number}"))

        ends = list(ENDS)
        while ends:
            assert len(told) < HINTS, "too many bursts were over before they were killed"
            tell(BEFORE)
            until(lambda: started(receiver) >= stored[-1] + STARTED)
            kill(server, ends[0])
            stored.append(started(receiver))
            if stored[-1] < len(told):
                ends.pop(0)
            tell(DURING)
            assert {each.result() for each in told} == {202}
            server.start()
        until(lambda: started(receiver) == len(told))
        runs = asyncio.run(runs_of(ids))
    known = receiver.log.count("(it was known there already)")
    with capsys.disabled():
        between = [after - before for before, after in pairwise(stored)]
        sys.stdout.write(
            f"\n  {len(told)} hints; runs before each kill: {between}; asked for twice: {known}\n"
        )
    assert set(runs) == set(ids[: len(told)]), "a hint was lost"
    assert set(runs.values()) == {1}, "a hint started two runs"
    assert "Traceback" not in receiver.log
    assert "NOT started" not in receiver.log


def started(receiver: Serving) -> int:
    """How many hints have a run, as the inbox knows it."""
    return sum(each.state == "started" for each in recent(receiver.inbox, HINTS))


def kill(server: PrefectServer, how: signal.Signals) -> None:
    if how == signal.SIGKILL:
        server.child.kill()
    else:
        server.child.stop()


async def deploy(names: list[str]) -> list[UUID]:
    """A deployment of each name, for which nobody works: its runs stay."""
    schema = scheduled.parameters.model_dump()
    async with get_client() as client:
        flow = await client.create_flow(scheduled)
        return [
            await client.create_deployment(flow_id=flow, name=name, parameter_openapi_schema=schema)
            for name in names
        ]


async def runs_of(deployments: list[UUID]) -> Counter[UUID | None]:
    """How many runs each deployment has."""
    assert len(deployments) < 200, "that is a page"
    mine = DeploymentFilter(id=DeploymentFilterId(any_=list(deployments)))
    async with get_client() as client:
        return Counter(run.deployment_id for run in await client.read_flow_runs(deployment_filter=mine))
