"""What a storm of webhooks starts: a flow per key, and who does the work of a worker for all of them."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flow_engine import run_flow_async
from prefect.states import Pending

from flows.coalesce import supersede_siblings
from tests.webhooks.inbox.storm_sender import Newest

POOL = "storm"
FLOW = "storm"
BUSY = (PrefectHTTPStatusError, httpx.TransportError)
"""What a server that is busy makes of a call; it is asked again."""


@dataclass
class Sources:
    """What is newest of each key, what was built of it, and whether builds may end."""

    newest: Newest
    built: dict[int, list[int]] = field(default_factory=dict)
    errors: list[BaseException] = field(default_factory=list)
    calm: asyncio.Event = field(default_factory=asyncio.Event)


SOURCES: Sources = None  # type: ignore[assignment] # the test sets it


@flow(name=FLOW, flow_run_name="key {key}")
async def storm(key: int, hint: str = "") -> None:
    """What our flows do: supersede, look, then a build that takes longer than the storm."""
    await supersede_siblings()
    SOURCES.built.setdefault(key, []).append(SOURCES.newest[key])
    await SOURCES.calm.wait()


async def deploy(keys: Iterable[int]) -> None:
    """A deployment for each key, on a queue of its own that runs one at a time."""
    from prefect.client.schemas.actions import WorkPoolCreate

    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        flow_id = await client.create_flow(storm)
        some = asyncio.Semaphore(4)

        async def one(key: int) -> None:
            async with some:
                queue = await client.create_work_queue(f"key-{key}", work_pool_name=POOL)
                await client.update_work_queue(queue.id, concurrency_limit=1)
                await client.create_deployment(
                    flow_id=flow_id,
                    name=f"key-{key}",
                    work_pool_name=POOL,
                    work_queue_name=f"key-{key}",
                    parameters={"key": key},
                    parameter_openapi_schema=storm.parameters.model_dump(),
                    enforce_parameter_schema=True,
                )

        await asyncio.gather(*map(one, keys))


async def work(stop: asyncio.Event) -> None:
    """What a worker does, without a process for each run: claim what is due, and run it here."""
    busy: dict[Any, asyncio.Task[None]] = {}
    async with get_client() as client:
        while not stop.is_set():
            with suppress(*BUSY):
                for each in await client.get_scheduled_flow_runs_for_work_pool(POOL):
                    if each.flow_run.id not in busy:
                        busy[each.flow_run.id] = asyncio.create_task(_run(client, each.flow_run))
            busy = {key: task for key, task in busy.items() if not task.done()}
            await asyncio.sleep(0.2)
        await asyncio.gather(*busy.values())


async def _run(client: PrefectClient, run: FlowRun) -> None:
    """Until it has an end, as a worker does: a server that is busy is asked again."""
    for _ in range(20):
        try:
            await client.set_flow_run_state(run.id, Pending())
            claimed = await client.read_flow_run(run.id)
            # There is one worker: what is pending is its own, also where it heard no answer to its claim.
            if claimed.state and claimed.state.is_pending():
                ended: Any = await run_flow_async(
                    storm, flow_run=claimed, parameters=claimed.parameters, return_type="state"
                )
                if ended.is_failed():
                    SOURCES.errors.append(RuntimeError(ended.message))
        except BUSY:
            await asyncio.sleep(1)
        except Exception as error:  # noqa: BLE001 the test looks at them
            SOURCES.errors.append(error)
            return
        else:
            return
