"""What mends crashed runs: automations of the Prefect server, for runs with the tag `linkspan` only.

A crash is the process's death; errors that a flow raises are not touched. No run is lost for good by any of
this: the schedules of prefect.yaml look after what is not mended.
"""

from collections.abc import Mapping
from datetime import timedelta

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.events import ResourceSpecification

TAG = "linkspan"
PREFIX = "linkspan: "

# A run that starts again is Running under another name.
STARTED = {"prefect.flow-run.Running", "prefect.flow-run.Retrying", "prefect.flow-run.Rerunning"}
HEARTBEAT = "prefect.flow-run.heartbeat"
# Names of final states, ours too. Not `Crashed` nor `AwaitingRetry`: for an event that it expects a trigger
# reads before it writes, SQLite may refuse that, and then the server hands the event to all automations again
# (a run would start twice) or gives it up, and with it for 15 minutes all events of the run after it.
ENDED = {
    "Completed",
    "Failed",
    "Cancelled",
    "TimedOut",
    "Waiting",
    "UpToDate",
    "Pinned",
    "HeldBack",
    "Repaired",
}

# A beat comes every 30 s. SQLite drops one now and then, and a healthy run must not be restarted for that.
HEARTBEAT_LOST = timedelta(seconds=105)
RESTART_AFTER = timedelta(seconds=10)  # the least that Prefect takes
# A run that never started (0) is not started again: a flow that cannot be imported would crash for ever.
RESTARTS = ["1", "2", "3", "4"]


def wanted() -> list[AutomationCore]:
    """The automations as they should be."""
    return [
        _mends(
            "a crashed run starts again",
            "Up to its fifth attempt. Flows fail by themselves at fewer (guard_attempts).",
            # Not at once: the worker reports a crash twice, and the second would crash the restart.
            after={"prefect.flow-run.Crashed"},
            expect={"prefect.flow-run.Pending"},
            within=RESTART_AFTER,
            only={"prefect.run-count": RESTARTS},
            to=ChangeFlowRunState(
                state=StateType.SCHEDULED,
                name="AwaitingRetry",
                message="The process died; starting again",
            ),
        ),
        _mends(
            "a run without heartbeat has crashed",
            "Its worker died too, or its machine; the slot in its queue is freed.",
            # The start too: a run may die before its first beat has left.
            after={*STARTED, HEARTBEAT},
            expect={HEARTBEAT, *(f"prefect.flow-run.{name}" for name in ENDED)},
            within=HEARTBEAT_LOST,
            only={},
            to=ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message=f"No sign of life for {HEARTBEAT_LOST.seconds} s",
            ),
        ),
    ]


def _mends(
    name: str,
    description: str,
    *,
    after: set[str],
    expect: set[str],
    within: timedelta,
    only: Mapping[str, str | list[str]],
    to: ChangeFlowRunState,
) -> AutomationCore:
    """Changes the state of a run of ours that has seen one of `after` and then none of `expect` in time."""
    return AutomationCore(
        name=PREFIX + name,
        description=description,
        trigger=EventTrigger(
            after=after,
            expect=expect,
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*", **only}),
            match_related=_OUR_TAG,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[to],
    )


_OUR_TAG = ResourceSpecification(
    {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}
)


async def ensure(client: PrefectClient) -> list[str]:
    """Create what is missing and correct what differs; the names of what was changed.

    One that is as it should be is not touched: a change would forget the runs that it is watching.
    """
    changed = []
    ours = {automation.name for automation in wanted()}
    for other in await client.read_automations():
        if other.name.startswith(PREFIX) and other.name not in ours:
            await client.delete_automation(other.id)  # of an earlier version
            changed.append(other.name)
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
