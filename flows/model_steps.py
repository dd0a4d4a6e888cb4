"""The steps of the data-science stream."""

import asyncio

from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact

from flows.opened import opened
from flows.support import say, step
from linkspan.config import AppConfig
from linkspan.errors import ModelNotFound
from linkspan.ledger.values import PackagedModel
from linkspan.models import ModelStore, Pinned
from linkspan.models import package as layers
from linkspan.progress import Percent, Transfer
from linkspan.release.newest import usable_config


@step("read linkspan.toml")
async def read_config(repository: str) -> AppConfig | None:
    """What the newest commit that can be read says about its model; None if nothing was committed yet."""
    with opened() as it:
        return await asyncio.to_thread(usable_config, await it.repository(repository), say())


@step("pin the version")
async def pin(store: str, name: str, version: str | None) -> Pinned | None:
    """The version that was asked for, else the newest, with every object pinned; None if there is none."""
    with opened() as it:
        return await asyncio.to_thread(_pin, await it.models(store, name), version)


@step("look for the layer")
async def look_up(
    app: str, registry: str, pinned: Pinned, folder: str, on_purpose: bool
) -> tuple[PackagedModel | None, str]:
    """The layer of this model if the registry has it, else why it is held back. Reads no byte of it."""
    with opened() as it:
        client = await it.registry(registry, app)
        found = await asyncio.to_thread(layers.packaged_already, client, pinned, folder)
        if found:
            return found, ""
        return None, await asyncio.to_thread(layers.held, client, pinned, on_purpose=on_purpose)


@step("validate and package the model", timeout_seconds=6 * 3600)
async def package(
    app: str, store: str, registry: str, name: str, version: str | None, folder: str
) -> PackagedModel:
    """Stream the model into the registry as layers, and commit them once the model has scored.

    Pins for itself: a retry after the objects were overwritten must take what is there then.
    """
    with opened() as it:
        models = await it.models(store, name)
        pinned = await asyncio.to_thread(_pin, models, version)
        if pinned is None:
            raise ModelNotFound(f"model {name} has gone from {models.url} since it was found")
        client = await it.registry(registry, app)
        artifact = await acreate_progress_artifact(
            progress=0.0, key=f"{app}-upload", description=f"{pinned.name} {pinned.version} to {client.name}"
        )
        percent = Percent(sum(obj.size for obj in pinned.objects.values()))
        work = asyncio.create_task(
            asyncio.to_thread(layers.package, models, client, pinned, folder, say=say(), progress=percent.add)
        )
        told = Transfer(f"{pinned.name} {pinned.version} to the registry:", say(), every=10)
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=1.0)
                told.update(pinned.name, percent.done, percent.total)
                await aupdate_progress_artifact(artifact, percent.value)
        except Exception:
            await asyncio.wait({work})  # it has the client, and ends by itself
            raise
        return await work


def _pin(models: ModelStore, version: str | None) -> Pinned | None:
    return models.get(version) if version else models.newest()
