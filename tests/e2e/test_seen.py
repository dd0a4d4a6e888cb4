"""What people see of a run: report, links, progress, events; and that temporary errors pass by themselves."""

import asyncio
import sys
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.events.worker import EventsWorker

from linkspan.nouns import short
from tests.e2e.world import World, task_runs
from tests.services.prefect_server import asked
from tests.waiting import Patience


async def artifacts(run_id: Any) -> dict[str, Any]:
    async with get_client() as client:
        found = await client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        )
    return {each.key or "": each for each in found}


async def events(world: World, resources: list[str], count: int) -> list[dict[str, Any]]:
    wanted = {"filter": {"resource": {"id": resources}, "event": {"prefix": ["linkspan."]}}, "limit": 50}
    server, patience = world.server, Patience()
    while True:
        answer = await asyncio.to_thread(asked, server.api_url, server.auth, "POST", "events/filter", wanted)
        found: list[dict[str, Any]] = answer.json()["events"]
        if len(found) >= count:
            return sorted(found, key=lambda each: each["occurred"])
        patience.look(len(found), str([each["event"] for each in found]))
        await asyncio.sleep(0.3)


async def test_what_a_release_leaves_for_people(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    sha = world.commit("one|two *and* <b>three</b>")
    model = world.publish(side=800)
    with world.server.api() as engine:
        code = await world.app_stream(converge=[f"build-and-deploy/{world.service}"], hint="push by Ada")
        (started,) = engine.recent_runs(f"build-and-deploy/{world.service}")
        assert started.parameters["hint"] == "push by Ada"
        assert [step["name"] for step in started.parameters["before"]] == [
            "build the code image",
            "run the app's tests",
            "push the code image",
        ]
        # Again: known already, but a hint is a wish, so the release is asked to look once more.
        assert (await world.app_stream(converge=[f"build-and-deploy/{world.service}"])).type == "COMPLETED"
        assert len(engine.recent_runs(f"build-and-deploy/{world.service}")) == 2
    packaged = await world.model_stream()
    release = await world.release(hint="push by Ada", before=started.parameters["before"])
    live, url = world.revision(), world.runtime().url(world.service)

    (upload,) = (await artifacts(packaged.id)).values()
    assert (upload.type, upload.data) == ("progress", 100.0)
    left = await artifacts(release.id)
    report = left[f"{world.service}-release"].data
    with capsys.disabled():
        sys.stdout.write(f"\n{report}\n")
    for part in (
        f"# {world.app}: {short(sha)} + v1 → production (revision 1)",
        f"[{url}]({url})",
        "| Started by | push by Ada |",
        f"| Commit | `{short(sha)}` Say one\\|two \\*and\\* \\<b\\>three\\</b\\> |",
        "| Author | Ada Lovelace |",
        "**v1**",
        "accuracy 0.97",
        "| Published by | Grace |",
        live.release.image,
        model.digest,
        "| Reused | nothing |",
        "nothing: the first release",
        "| run the app's tests |",
        "| smoke-test the linked image |",
        "| roll out |",
        "| **Total** |",
    ):
        assert part in report, part
    assert url in left[f"{world.service}-service"].data
    assert live.release.image in left[f"{world.service}-image"].data

    world.publish(seed=1)
    assert (await world.model_stream()).name == "Completed"
    second = await artifacts((await world.release()).id)
    assert "| Reused | the code image |" in second[f"{world.service}-release"].data
    world.publish(labels="bad bad bad bad bad bad bad bad")
    assert (await world.model_stream()).name == "Completed"
    assert (await world.release()).type == "FAILED"
    assert (await world.release()).name == "HeldBack"
    await EventsWorker.drain_all()  # type: ignore[misc]
    about_app = await events(world, [f"linkspan.app.{world.app}"], 5)
    assert [each["event"] for each in about_app] == [
        "linkspan.code.tested",
        "linkspan.release.live",
        "linkspan.release.live",
        "linkspan.release.failed",
        "linkspan.release.held",
    ]
    payload = about_app[1]["payload"]
    assert (payload["commit"], payload["model"], payload["url"]) == (sha, "digits v1", url)
    assert "smoke request" in about_app[3]["payload"]["reason"]
    assert code.type == "COMPLETED"


async def test_temporary_errors_pass_and_are_counted(world: World) -> None:
    world.commit()
    world.publish()
    assert (await world.app_stream()).name == "Completed"
    left = {"HEAD": 5, "POST": 3, "PATCH": 1}

    def away(method: str, path: str) -> int:
        if world.app not in path or not left.get(method):
            return 0
        left[method] -= 1
        return 503

    world.front.fail(away)
    done = await world.model_stream()
    world.front.fail(None)
    assert done.name == "Completed"
    # Three tries within a request, then the step's own retries; a broken upload goes on within the step.
    attempts = {
        "read linkspan.toml": 1,
        "pin the version": 1,
        "look for the layer": 2,
        "validate and package the model": 2,
    }
    steps = await task_runs(done.id, *attempts)
    assert {name: run.run_count for name, run in steps.items()} == attempts
    assert (await world.release()).name == "Completed"
    assert world.ask()["model"] == "v1"
