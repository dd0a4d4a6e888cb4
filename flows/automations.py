"""What mends crashed runs: automations of the Prefect server, for runs with the tag `linkspan` only.

A crash is the process's death; errors that a flow raises are not touched. No run is lost for good by any of
this: the schedules of prefect.yaml look after what is not mended.
"""

import asyncio
from datetime import timedelta

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.events import ResourceSpecification

TAG = "linkspan"

# Runs that start again are Running under other names.
STARTED = {"prefect.flow-run.Running", "prefect.flow-run.Retrying", "prefect.flow-run.Rerunning"}
HEARTBEAT = "prefect.flow-run.heartbeat"
ENDED = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed", "TimedOut")}
RUN_ID = {"prefect.resource.id"}

HEARTBEAT_LOST = timedelta(seconds=75)  # two beats of 30 s, and some
NEVER_STARTED = timedelta(minutes=3)
LONGEST_RUN = timedelta(hours=24)


def wanted() -> list[AutomationCore]:
    """The automations as they should be."""
    return [
        AutomationCore(
            name="linkspan: a crashed run starts again",
            description="Counting is the flow's: it fails on purpose after a few attempts.",
            trigger=_trigger(
                # Only a run that had started: a flow that cannot even be imported would crash for ever.
                after=STARTED,
                expect={"prefect.flow-run.Crashed"},
                posture=Posture.Reactive,
                within=LONGEST_RUN,
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.SCHEDULED,
                    name="AwaitingRetry",
                    message="The process died; starting again",
                )
            ],
        ),
        AutomationCore(
            name="linkspan: a run without heartbeat has crashed",
            description="Its worker died too, or its machine; the slot in its queue is freed.",
            trigger=_trigger(
                after=STARTED | {HEARTBEAT},
                expect={HEARTBEAT, *ENDED, "prefect.flow-run.AwaitingRetry", "prefect.flow-run.Suspended"},
                posture=Posture.Proactive,
                within=HEARTBEAT_LOST,
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED, name="Crashed", message="No sign of life for 75 s"
                )
            ],
        ),
        AutomationCore(
            name="linkspan: a run that never starts has crashed",
            description="Its worker died between taking it and starting it; the slot in its queue is freed.",
            trigger=_trigger(
                after={"prefect.flow-run.Pending"},
                expect={*STARTED, *ENDED, "prefect.flow-run.AwaitingRetry"},
                posture=Posture.Proactive,
                within=NEVER_STARTED,
            ),
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED, name="Crashed", message="Taken, but never started"
                )
            ],
        ),
    ]


def _trigger(*, after: set[str], expect: set[str], posture: Posture, within: timedelta) -> EventTrigger:
    return EventTrigger(
        after=after,
        expect=expect,
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        match_related=ResourceSpecification(
            {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}
        ),
        for_each=RUN_ID,
        posture=posture,
        threshold=1,
        within=within,
    )


async def ensure(client: PrefectClient | None = None) -> list[str]:
    """Create what is missing and correct what differs; the names of what was changed.

    One that is as it should be is not touched: a change would forget the runs that it is watching.
    """
    if client is None:
        async with get_client() as own:
            return await ensure(own)
    changed = []
    for automation in wanted():
        found = await client.read_automations_by_name(automation.name)
        for double in found[1:]:
            await client.delete_automation(double.id)
        if not found:
            await client.create_automation(automation)
        elif _content(found[0]) != _content(automation):
            await client.update_automation(found[0].id, automation)
        else:
            continue
        changed.append(automation.name)
    return changed


def _content(automation: AutomationCore) -> object:
    # `id`s are the server's; sets have no order in JSON, so compare them as sets.
    trigger = automation.trigger
    assert isinstance(trigger, EventTrigger)  # noqa: S101 - all of ours are
    return (
        automation.name,
        automation.description,
        automation.enabled,
        trigger.model_dump(mode="python", exclude={"id"}),
        [action.model_dump(mode="json") for action in automation.actions],
    )


if __name__ == "__main__":
    asyncio.run(ensure())
