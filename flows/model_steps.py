"""The steps of the data-science stream."""

import asyncio
from typing import cast

from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact

from blocks import ContainerRegistry, GitRepository
from flows.support import load_store, say, step
from linkspan import model_layer
from linkspan.config import AppConfig
from linkspan.converge import PackagedModel
from linkspan.models import Pinned
from linkspan.newest import newest_config
from linkspan.progress import Percent


@step(name="read linkspan.toml")
async def read_config(app: str, repository: str) -> AppConfig | None:
    """What the newest commit says about the model that it takes; None if nothing was committed yet."""
    source = (await GitRepository.aload(repository)).open()
    return await asyncio.to_thread(newest_config, source, app)


@step(name="pin the version")
async def pin(store: str, name: str, version: str | None) -> Pinned | None:
    """The version that was asked for, else the newest, with every object pinned; None if there is none."""
    models = (await load_store(store)).models(name)
    if version:
        return await asyncio.to_thread(models.get, version)
    return await asyncio.to_thread(models.newest)


@step(name="look for the layer")
async def look_up(app: str, registry: str, pinned: Pinned, folder: str, on_purpose: bool) -> PackagedModel | None:
    """The layer of this model, if the registry has it. Reads no byte of the model."""
    client = (await ContainerRegistry.aload(registry)).open(app)
    found = await asyncio.to_thread(model_layer.packaged_already, client, pinned, folder)
    if found is None:
        await asyncio.to_thread(model_layer.refuse_if_rejected, client, pinned, on_purpose=on_purpose)
    return found


@step(name="validate and package the model", timeout_seconds=6 * 3600)
async def package(app: str, store: str, registry: str, pinned: Pinned, folder: str) -> PackagedModel:
    """Stream the model into the registry as one layer, and commit it once the model has scored."""
    models = (await load_store(store)).models(pinned.name)
    client = (await ContainerRegistry.aload(registry)).open(app)
    artifact = await acreate_progress_artifact(
        progress=0.0, key=f"{app}-upload", description=f"{pinned.name} {pinned.version} to {client.name}"
    )
    percent = Percent(sum(obj.size for obj in pinned.objects.values()))
    work = asyncio.create_task(
        asyncio.to_thread(
            model_layer.package, models, client, pinned, folder, say=say(), progress=percent.add
        )
    )
    while not work.done():
        await asyncio.wait({work}, timeout=1.0)
        await aupdate_progress_artifact(artifact, percent.value)  # type: ignore[arg-type]
    return cast(PackagedModel, await work)
