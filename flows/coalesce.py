"""Many hints, one run: a run that starts makes the runs waiting behind it needless, and tells them so.

A flow calls `supersede_siblings` first and reads the newest state after it (PREFECT.md, "Coalescing"). A hint
that arrives in between makes a new run, which waits; so the last state always wins.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext

from linkspan.errors import RunFailed

TALK = frozenset({"hint", "before"})
"""Parameters that say who started a run and why; a run without them does the same."""

SUPERSEDED = "Superseded"
PAGE = 200


async def supersede_siblings() -> int:
    """Cancel the due, waiting runs of this deployment that would do just what this run does; how many.

    Never this run, a running one, one planned for later, or one with other parameters: a run for a named
    commit, or on purpose, is an order and not a hint. Without a deployment (a flow called in a test) there
    are no siblings.
    """
    own = _own_run()
    if own is None or own.deployment_id is None:
        return 0
    async with get_client() as client:
        waiting = await _waiting(client, own)
        # By the server's clock, which also says when runs are due: a run that is planned for later would be
        # lost where this machine's is ahead.
        now = own.state.timestamp if own.state else datetime.now(UTC)
        needless = [run for run in waiting if replaces(own, run, now)]
        limit = asyncio.Semaphore(4)  # SQLite locks up under more

        async def cancel(run: FlowRun) -> bool:
            state = State[Any](
                type=StateType.CANCELLED, name=SUPERSEDED, message=f"Superseded by run {own.name} ({own.id})"
            )
            async with limit:
                answer = await client.set_flow_run_state(run.id, state)
            return answer.status.value == "ACCEPT"

        return sum(await asyncio.gather(*(cancel(run) for run in needless)))


def replaces(own: FlowRun, other: FlowRun, now: datetime) -> bool:
    """Whether `own`, which starts now, does all that `other`, which waits, would do."""
    due = other.next_scheduled_start_time
    return (
        other.id != own.id
        and other.deployment_id == own.deployment_id
        and due is not None
        and due <= now
        # A run that comes back after a crash was running before: it is cancelled by nobody but a person.
        and other.run_count == 0
        and _task(own.parameters) == _task(other.parameters)
    )


async def guard_attempts(limit: int = 5) -> None:
    """Raises RunFailed when this run was started more than `limit` times.

    Crashed runs are put back into the queue by flows/automations.py, and after a restart by linkspan/local.
    """
    own = _own_run()
    if own is not None and own.run_count > limit:
        raise RunFailed(
            f"run {own.name} crashed {own.run_count - 1} times",
            expected=f"at most {limit} attempts",
            fix="Its log says what it did last; memory is the usual cause. The next hint starts afresh",
        )


def _task(parameters: Mapping[str, Any]) -> dict[str, Any]:
    # A parameter that is None asks for what its absence asks for.
    return {name: value for name, value in parameters.items() if name not in TALK and value is not None}


def _own_run() -> FlowRun | None:
    context = FlowRunContext.get()
    return None if context is None else context.flow_run


async def _waiting(client: PrefectClient, own: FlowRun) -> list[FlowRun]:
    assert own.deployment_id is not None  # noqa: S101 - for the type checker
    found: list[FlowRun] = []
    while True:
        page = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
            ),
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[own.deployment_id])),
            limit=PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < PAGE:
            return found
