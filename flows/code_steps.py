"""The steps of the app stream, each a retry boundary: it may run twice and gives the same."""

import asyncio

from flows.opened import opened
from flows.support import say, step
from linkspan.code import image
from linkspan.code.image import CodeBuild
from linkspan.nouns import Commit


@step("find the commit")
async def find_commit(repository: str, sha: str | None) -> Commit | None:
    """The commit that was asked for, else the newest; None in an empty repository."""
    with opened() as it:
        source = await it.repository(repository)
        return await asyncio.to_thread(source.commit, sha) if sha else await asyncio.to_thread(source.newest)


@step("look for a tested image")
async def look_up(app: str, registry: str, commit: Commit) -> bool:
    """Whether the commit has a tested image already."""
    with opened() as it:
        return (
            await asyncio.to_thread(image.tested_image, await it.registry(registry, app), commit) is not None
        )


@step("build the code image", timeout_seconds=3600)
async def build(
    app: str, repository: str, registry: str, builder: str, commit: Commit, refresh: bool, on_purpose: bool
) -> CodeBuild:
    """Check the commit out and build it, unless the same tree was tested before."""
    with opened() as it:
        return await asyncio.to_thread(
            image.build,
            await it.repository(repository),
            await it.registry(registry, app),
            await it.builder(builder),
            commit,
            refresh=refresh,
            on_purpose=on_purpose,
            say=say(),
        )


@step("run the app's tests", timeout_seconds=3600)
async def run_tests(app: str, registry: str, builder: str, built: CodeBuild) -> None:
    """Run the app's own tests inside the image that was built."""
    with opened() as it:
        await asyncio.to_thread(
            image.run_tests, await it.builder(builder), await it.registry(registry, app), built, say=say()
        )


@step("push the code image", timeout_seconds=3600)
async def push(app: str, registry: str, builder: str, built: CodeBuild) -> CodeBuild:
    """Push the tested image and say in the registry which commit it is."""
    with opened() as it:
        return await asyncio.to_thread(
            image.push,
            await it.builder(builder),
            await it.registry(registry, app),
            built,
            auth=await it.login(registry),
            say=say(),
        )
