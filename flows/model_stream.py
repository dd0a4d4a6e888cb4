"""The data-science stream: from a published model to a validated layer, then on to the release."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import model_steps as steps
from flows.coalesce import guard_attempts, supersede_siblings
from flows.opened import keeping
from flows.support import Stopwatch, announce, name_run, own_key, scheduled, start
from linkspan.events import MODEL_VALIDATED, model_resource


@flow(name="model-stream", flow_run_name="{app}: newest model", timeout_seconds=8 * 3600)
@keeping
async def model_stream(
    app: str = "digits",
    repository: str = "git-repository/digits",
    store: str = "file-model-store/digits",
    registry: str = "container-registry/digits",
    converge: list[str] = ["build-and-deploy/digits-production"],  # noqa: B006 shown in the UI
    version: str | None = None,
    hint: str = "",
    on_purpose: bool = False,
) -> State[Any]:
    """Pin, validate and package the newest model, then start the release.

    Args:
        app: Name of the app, as in its linkspan.toml.
        repository: Block that says where the code is; its linkspan.toml names the model.
        store: Block that says where models are published.
        registry: Block that says where images go.
        converge: Deployments to start when there is something new.
        version: A version to package instead of the newest one.
        hint: Who or what started this run, for people.
        on_purpose: Try again even if this model was refused before.
    """
    await guard_attempts()
    await supersede_siblings()
    config = await steps.read_config(repository)
    if config is None:
        return Completed(name="Waiting", message="Waiting for the first commit: it names the model")
    pinned = await steps.pin(store, config.model.name, version)
    if pinned is None:
        return Completed(name="Waiting", message=f"Waiting for the first version of {config.model.name}")
    folder = config.model.path
    packaged, held = await steps.look_up(app, registry, pinned, folder, on_purpose)
    if held:
        await name_run(f"{app}: {pinned.name} {pinned.version}".strip())
        return Completed(name="HeldBack", message=held)
    if packaged:
        await name_run(f"{app}: {packaged.model.name} {packaged.model.version}")
        if not scheduled():
            await start(converge, hint=hint, key=own_key(), parameters={})
        return Completed(message=f"{packaged.model.version} was packaged before")
    await name_run(f"{app}: {pinned.name} {pinned.version}")
    watch = Stopwatch()
    packaged = await steps.package(app, store, registry, config.model.name, version, folder)
    watch.lap("validate and package the model", pushed=packaged.pushed)
    await name_run(f"{app}: {packaged.model.name} {packaged.model.version}")
    announce(MODEL_VALIDATED, model_resource(packaged.model.name), packaged.model_dump(mode="json"))
    await start(
        converge,
        hint=hint or f"model {packaged.model.version} by {packaged.model.published_by}",
        key=own_key(),
        parameters={"before": watch.steps},
    )
    return Completed(message=f"{packaged.model.version} is valid and packaged")
