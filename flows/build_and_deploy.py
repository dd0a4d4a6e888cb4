"""Where the two streams meet: link the newest code and the newest model, prove the pair, roll it out."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import release_steps as steps
from flows.coalesce import guard_attempts, supersede_siblings
from flows.opened import keeping
from flows.support import Stopwatch, announce, name_run, scheduled, start
from linkspan.events import RELEASE_HELD, app_resource, told
from linkspan.nouns import short
from linkspan.release.converge import waiting_for
from linkspan.release.report import Step

QUIET = {"nothing": "UpToDate", "pinned": "Pinned", "held": "HeldBack"}


@flow(name="build-and-deploy", flow_run_name="{app} → {environment}", timeout_seconds=7200)
@keeping
async def build_and_deploy(
    app: str = "digits",
    environment: str = "production",
    repository: str = "git-repository/digits",
    store: str = "file-model-store/digits",
    registry: str = "container-registry/digits",
    runtime: str = "docker-runtime/digits-production",
    model_stream: str = "model-stream/digits",
    commit: str | None = None,
    model: str | None = None,
    hint: str = "",
    on_purpose: bool = False,
    before: list[Step] = [],  # noqa: B006 shown in the UI
) -> State[Any]:
    """Bring the newest tested code and the newest valid model live, as one release.

    Args:
        app: Name of the app, as in its linkspan.toml.
        environment: Which of the app's environments to release to.
        repository: Block that says where the code is.
        store: Block that says where models are published.
        registry: Block that says where images are.
        runtime: Block that says where the app runs.
        model_stream: Deployment that packages models, asked to look when there is none.
        commit: A tested commit to release instead of the newest one, and to pin the environment to.
        model: A valid model version to release instead of the newest one, and to pin the environment to.
        hint: Who or what started this run, for people.
        on_purpose: Release even if the environment is pinned or this pair failed before.
        before: What the stream that started this run did, for the report.
    """
    await guard_attempts()
    await supersede_siblings()
    watch = Stopwatch(before)
    code = await steps.find_code(app, repository, registry, commit)
    packaged = await steps.find_model(environment, store, registry, runtime, code, model) if code else None
    if code is None or packaged is None:
        if code:  # published before the first commit, or the code wants its model elsewhere now
            await start([model_stream], hint=hint, key=f"wanted:{code.digest}:{hint}", parameters={})
        return Completed(name="Waiting", message=waiting_for(code))

    pin = bool(commit or model)  # else the next run would undo it
    plan = await steps.compare(code, packaged, environment, registry, runtime, on_purpose, pin)
    release = plan.candidate.release
    await name_run(f"{app}: {short(release.commit.sha)} + {release.model.version} → {environment}")
    if plan.decision.action == "held" and not scheduled():
        announce(RELEASE_HELD, app_resource(app), told(release, environment, reason=plan.decision.reason))
    if plan.decision.action in QUIET:
        return Completed(name=QUIET[plan.decision.action], message=plan.decision.reason)
    if plan.decision.action == "repair":
        await steps.repair(plan, environment, registry, runtime)
        return Completed(name="Repaired", message=plan.decision.reason)
    watch.lap("find and compare")

    plan = await steps.link(code, packaged, plan, registry)
    watch.lap("link", pushed=plan.pushed)
    await steps.smoke_test(plan, environment, registry, runtime)
    watch.lap("smoke-test the linked image")
    await steps.confirm(plan, registry)
    revision = await steps.roll_out(plan, environment, registry, runtime, hint or "build-and-deploy", pin)
    watch.lap("roll out")
    await steps.write_report(revision, plan, environment, registry, runtime, watch.steps)
    return Completed(message=f"{release.title} is live in {environment} as revision {revision.number}")
