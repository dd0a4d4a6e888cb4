"""For servers and stores that cannot call us: look every so often, start a stream when something is new.

It keeps nothing: what it sees is the idempotency key of the run that it starts, so the server itself knows
what was seen before. One question to git and one to the store; no clone, no model byte. What comes back to an
earlier state, as a forced push may, has a key that was used: the stream's own schedule finds that.
"""

import asyncio
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.coalesce import supersede_siblings
from flows.opened import opened
from flows.support import start, step
from linkspan.nouns import short


@flow(name="poll", flow_run_name="{app}: look", timeout_seconds=300)
async def poll(
    app: str = "digits",  # noqa: ARG001 for the run's name
    repository: str = "git-repository/digits",
    store: str = "file-model-store/digits",
    model: str = "digits",
    code_streams: list[str] = ["app-stream/digits"],  # noqa: B006 shown in the UI
    model_streams: list[str] = ["model-stream/digits"],  # noqa: B006
) -> State[Any]:
    """Start a stream if its source has changed since it was last looked at.

    Args:
        app: Name of the app, for people.
        repository: Block that says where the code is.
        store: Block that says where models are published.
        model: Name of the model, as in the app's linkspan.toml.
        code_streams: Deployments to start when the branch is at another commit; none: do not look.
        model_streams: Deployments to start when another model is there; none: do not look.
    """
    await supersede_siblings()
    head, mark = await asyncio.gather(
        look_at_branch(repository) if code_streams else _nothing(),
        look_at_store(store, model) if model_streams else _nothing(),
    )
    if head:
        hint = f"a look at the branch: {short(head)}"
        await start(code_streams, hint=hint, key=f"poll:{head}", parameters={})
    if mark:
        await start(model_streams, hint="a look at the store", key=f"poll:{mark}", parameters={})
    return Completed(message=f"{short(head) if head else 'no commit'}, {mark[:7] or 'no model'}")


@step("ask for the branch")
async def look_at_branch(repository: str) -> str:
    """The sha that the branch is at; empty while the repository is."""
    with opened() as it:
        return await asyncio.to_thread((await it.repository(repository)).head) or ""


@step("ask the store")
async def look_at_store(store: str, model: str) -> str:
    """A word that changes with what the store holds; empty while it holds nothing."""
    with opened() as it:
        return await asyncio.to_thread((await it.models(store, model)).mark)


async def _nothing() -> str:
    return ""
