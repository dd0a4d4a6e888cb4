"""The steps of the app stream, each a retry boundary: it may run twice and gives the same."""

import asyncio

from blocks import ContainerRegistry, GitRepository, ImageBuilder
from flows.support import say, step
from linkspan import code_image
from linkspan.code_image import CodeBuild
from linkspan.converge import code_tag, commit_tag
from linkspan.nouns import Commit


@step(name="find the commit", task_run_name="find {sha}")
async def find_commit(repository: str, sha: str | None) -> Commit | None:
    """The commit that was asked for, else the newest; None in an empty repository."""
    source = (await GitRepository.aload(repository)).open()
    return await asyncio.to_thread(source.commit, sha) if sha else await asyncio.to_thread(source.newest)


@step(name="look for a tested image")
async def look_up(app: str, registry: str, commit: Commit) -> bool:
    """Whether the commit has a tested image already."""
    client = (await ContainerRegistry.aload(registry)).open(app)
    return await asyncio.to_thread(code_image.tested_image, client, commit) is not None


@step(name="build the code image", timeout_seconds=3600)
async def build(
    app: str, repository: str, registry: str, builder: str, commit: Commit, refresh: bool, on_purpose: bool
) -> CodeBuild:
    """Check the commit out and build it, unless the same tree was tested before."""
    source = (await GitRepository.aload(repository)).open()
    client = (await ContainerRegistry.aload(registry)).open(app)
    engine = (await ImageBuilder.aload(builder)).open()
    return await asyncio.to_thread(
        code_image.build, source, client, engine, commit, refresh=refresh, on_purpose=on_purpose, say=say()
    )


@step(name="run the app's tests", timeout_seconds=3600)
async def run_tests(app: str, registry: str, builder: str, built: CodeBuild) -> None:
    """Run the app's own tests inside the image that was built."""
    client = (await ContainerRegistry.aload(registry)).open(app)
    engine = (await ImageBuilder.aload(builder)).open()
    await asyncio.to_thread(code_image.run_tests, engine, client, built, say=say())


@step(name="push the code image", timeout_seconds=3600)
async def push(app: str, registry: str, builder: str, built: CodeBuild) -> CodeBuild:
    """Push the tested image and say in the registry which commit it is."""
    settings = await ContainerRegistry.aload(registry)
    engine = (await ImageBuilder.aload(builder)).open()
    digest = await asyncio.to_thread(
        engine.push,
        built.image,
        settings.repository(app),
        code_tag(built.key),
        auth=settings.docker_auth(),
        say=say(),
    )
    client = settings.open(app)
    await asyncio.to_thread(client.tag, digest, commit_tag(built.commit.sha))
    return built.model_copy(update={"digest": digest})
