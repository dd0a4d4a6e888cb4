"""The app stream: from a commit to a tested code image in the registry, then on to the release."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import code_steps as steps
from flows.coalesce import guard_attempts, supersede_siblings
from flows.opened import keeping
from flows.support import Stopwatch, announce, name_run, own_key, scheduled, start
from linkspan.events import CODE_TESTED, app_resource
from linkspan.nouns import short


@flow(name="app-stream", flow_run_name="{app}: newest commit", timeout_seconds=7200)
@keeping
async def app_stream(
    app: str = "digits",
    repository: str = "git-repository/digits",
    registry: str = "container-registry/digits",
    builder: str = "image-builder/digits",
    converge: list[str] = ["build-and-deploy/digits-production"],  # noqa: B006 shown in the UI
    commit: str | None = None,
    hint: str = "",
    refresh: bool = False,
    on_purpose: bool = False,
) -> State[Any]:
    """Build, test and push the newest commit, then start the release.

    Args:
        app: Name of the app, as in its linkspan.toml.
        repository: Block that says where the code is.
        registry: Block that says where images go.
        builder: Block that says how images are built.
        converge: Deployments to start when there is something new.
        commit: A commit to build instead of the newest one.
        hint: Who or what started this run, for people.
        refresh: Look for newer base images too, and build again on those.
        on_purpose: Try again even if the tests of this code failed before.
    """
    await guard_attempts()
    await supersede_siblings()
    found = await steps.find_commit(repository, commit)
    if found is None:
        return Completed(name="Waiting", message="Waiting for the first commit")
    await name_run(f"{app}: {short(found.sha)} {found.subject[:60]}")
    if not refresh and await steps.look_up(app, registry, found):
        if not scheduled():
            await start(converge, hint=hint, key=own_key(), parameters={})
        return Completed(message=f"{short(found.sha)} was built and tested before")
    watch = Stopwatch()
    built = await steps.build(app, repository, registry, builder, found, refresh, on_purpose)
    if built.held:
        return Completed(name="HeldBack", message=built.held)
    watch.lap("build the code image", reused=built.digest is not None)
    if built.digest is None:
        await steps.run_tests(app, registry, builder, built)
        watch.lap("run the app's tests")
        built = await steps.push(app, registry, builder, built)
        watch.lap("push the code image", pushed=built.pushed)
    announce(CODE_TESTED, app_resource(app), {"commit": found.model_dump(mode="json"), "image": built.digest})
    await start(
        converge,
        hint=hint or f"commit {short(found.sha)} by {found.author}",
        key=own_key(),
        parameters={"before": watch.steps},
    )
    return Completed(message=f"{short(found.sha)} is built and tested")
