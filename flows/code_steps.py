"""The steps of the app stream, each a retry boundary: it may run twice and gives the same."""

import asyncio

from blocks import ContainerRegistry, GitRepository, ImageBuilder
from flows.support import load, say, step
from linkspan.code import image as code_image
from linkspan.code.image import CodeBuild
from linkspan.code.push import moved
from linkspan.ledger.tags import code_tag, commit_tag
from linkspan.nouns import Commit


@step("find the commit")
async def find_commit(repository: str, sha: str | None) -> Commit | None:
    """The commit that was asked for, else the newest; None in an empty repository."""
    source = (await load(GitRepository, repository)).open()
    return await asyncio.to_thread(source.commit, sha) if sha else await asyncio.to_thread(source.newest)


@step("look for a tested image")
async def look_up(app: str, registry: str, commit: Commit) -> bool:
    """Whether the commit has a tested image already."""
    client = (await load(ContainerRegistry, registry)).open(app)
    return await asyncio.to_thread(code_image.tested_image, client, commit) is not None


@step("build the code image", timeout_seconds=3600)
async def build(
    app: str, repository: str, registry: str, builder: str, commit: Commit, refresh: bool, on_purpose: bool
) -> CodeBuild:
    """Check the commit out and build it, unless the same tree was tested before."""
    source = (await load(GitRepository, repository)).open()
    client = (await load(ContainerRegistry, registry)).open(app)
    engine = (await load(ImageBuilder, builder)).open()
    return await asyncio.to_thread(
        code_image.build, source, client, engine, commit, refresh=refresh, on_purpose=on_purpose, say=say()
    )


@step("run the app's tests", timeout_seconds=3600)
async def run_tests(app: str, registry: str, builder: str, built: CodeBuild) -> None:
    """Run the app's own tests inside the image that was built."""
    client = (await load(ContainerRegistry, registry)).open(app)
    engine = (await load(ImageBuilder, builder)).open()
    await asyncio.to_thread(code_image.run_tests, engine, client, built, say=say())


@step("push the code image", timeout_seconds=3600)
async def push(app: str, registry: str, builder: str, built: CodeBuild) -> CodeBuild:
    """Push the tested image and say in the registry which commit it is."""
    settings = await load(ContainerRegistry, registry)
    engine = (await load(ImageBuilder, builder)).open()
    repository, auth = settings.repository(app), settings.docker_auth()
    digest = await asyncio.to_thread(
        engine.push, built.image, repository, code_tag(built.key), auth, say=say()
    )
    client = settings.open(app)
    await asyncio.to_thread(client.tag, digest, commit_tag(built.commit.sha))
    pushed = moved(await asyncio.to_thread(client.image, digest), engine.pushed)
    return built.model_copy(update={"digest": digest, "pushed": pushed})
