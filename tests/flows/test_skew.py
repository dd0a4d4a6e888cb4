"""Clocks that are a day ahead or behind, or jump: nothing is lost and nothing is taken for another."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow_async
from prefect.logging.handlers import APILogHandler
from prefect.states import Pending, Scheduled

from flows.coalesce import supersede_siblings
from tests.services.prefect_server import PrefectServer
from tests.skew import DAY, skewed

SKEWS = pytest.mark.parametrize("skew", [-DAY, DAY], ids=["behind", "ahead"])


@flow(name="test-skew")
async def superseding() -> Any:
    return await supersede_siblings()


@SKEWS
async def test_a_run_supersedes_what_is_due_by_the_servers_clock(
    prefect_api: PrefectServer, skew: timedelta
) -> None:
    """Of a clock that is ahead a planned run would be due, and the schedule would be gone for a day."""
    async with get_client() as client:
        flow_id = await client.create_flow(superseding)
        deployment = await client.create_deployment(flow_id=flow_id, name=f"skew-{uuid4().hex[:8]}")

        async def waiting(since: timedelta) -> FlowRun:
            state: State[Any] = Scheduled(scheduled_time=datetime.now(UTC) + since)
            return await client.create_flow_run_from_deployment(deployment, state=state)

        due = [await waiting(timedelta(seconds=-1)) for _ in range(2)]
        planned = await waiting(timedelta(minutes=10))
        own = await waiting(timedelta())
        await client.set_flow_run_state(own.id, Pending())
        with skewed(skew):
            claimed = await client.read_flow_run(own.id)
            found: Any = await run_flow_async(superseding, flow_run=claimed, parameters={})

        async def state(run_id: UUID) -> str | None:
            return (await client.read_flow_run(run_id)).state_name

        assert found == 2
        assert [await state(run.id) for run in due] == ["Superseded", "Superseded"]
        assert await state(planned.id) == "Scheduled"
    await APILogHandler.aflush()  # else the last lines look for the server when the session is over
