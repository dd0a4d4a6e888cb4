"""The steps of build-and-deploy: what is newest, what should happen, and doing it."""

import asyncio
from functools import partial

from prefect.artifacts import acreate_link_artifact, acreate_markdown_artifact

from blocks import ContainerRegistry
from flows.opened import opened
from flows.support import announce, run_url, say, step
from linkspan.events import RELEASE_FAILED, RELEASE_LIVE, app_resource, told
from linkspan.ledger.values import CodeImage, PackagedModel
from linkspan.nouns import Model, Release, Revision
from linkspan.release import newest, report, smoke
from linkspan.release import steps as release
from linkspan.release.plan import Plan
from linkspan.runtimes.base import RuntimeSettings


@step("find the newest code")
async def find_code(app: str, repository: str, registry: str, commit: str | None) -> CodeImage | None:
    """The newest commit whose tests passed, or the one that was asked for."""
    with opened() as it:
        source, client = await it.repository(repository), await it.registry(registry, app)
        return await asyncio.to_thread(newest.newest_code, source, client, commit)


@step("find the newest model")
async def find_model(
    environment: str, store: str, registry: str, runtime: str, code: CodeImage, version: str | None
) -> PackagedModel | None:
    """The newest model that was validated, or the one that was asked for, packed where this code wants it."""
    wanted, service = code.config.model, release.service_of(code.config, environment)
    with opened() as it:
        settings = await it.block(RuntimeSettings, runtime)
        login = await it.block(ContainerRegistry, registry)

        def live() -> Model | None:
            revision = settings.open(login.docker_auth()).live(service)
            return revision.release.model if revision else None

        models, client = await it.models(store, wanted.name), await it.registry(registry, code.config.name)
        return await asyncio.to_thread(newest.newest_model, models, client, wanted.path, version, live=live)


@step("compare with what is live")
async def compare(
    code: CodeImage,
    model: PackagedModel,
    environment: str,
    registry: str,
    runtime: str,
    on_purpose: bool,
    pin: bool,
) -> Plan:
    """Link the pair in memory and decide what should happen."""
    with opened() as it:
        client, target = await it.registry(registry, code.config.name), await it.runtime(runtime, registry)
        # Whatever becomes of what is newest: the pods of what is live must be able to pull.
        await asyncio.to_thread(target.refresh, release.service_of(code.config, environment))
        return await asyncio.to_thread(
            release.plan,
            client,
            target,
            code,
            model,
            environment,
            on_purpose=on_purpose,
            pin=pin,
            say=say(),
        )


@step("link")
async def link(code: CodeImage, model: PackagedModel, plan: Plan, registry: str) -> Plan:
    """Push the candidate: one configuration and one manifest, by digest. It is not a release yet."""
    with opened() as it:
        client = await it.registry(registry, code.config.name)
        mounted = plan.candidate.mount is not None
        pushed = await asyncio.to_thread(release.push_candidate, client, code, model, mounted=mounted)
        return plan.model_copy(update={"pushed": pushed})


@step("smoke-test the linked image", timeout_seconds=3600)
async def smoke_test(plan: Plan, environment: str, registry: str, runtime: str) -> smoke.SmokeResult:
    """Run the candidate where it is to go live and send the app's smoke request.

    Raises SmokeFailed, and remembers it.
    """
    candidate = plan.candidate
    with opened() as it:
        return await asyncio.to_thread(
            smoke.smoke_test,
            await it.registry(registry, candidate.release.app),
            await it.runtime(runtime, registry),
            candidate,
            environment,
            say=say(),
            refused=lambda reason: _failed(candidate.release, environment, reason),
            later=partial(it.later, tell=say()),
        )


@step("make it a release")
async def confirm(plan: Plan, registry: str) -> str:
    """Put the tag that makes the candidate a release: the last thing that is pushed."""
    with opened() as it:
        client = await it.registry(registry, plan.candidate.release.app)
        return await asyncio.to_thread(release.confirm, client, plan.candidate.release)


@step("roll out", timeout_seconds=3600)
async def roll_out(
    plan: Plan, environment: str, registry: str, runtime: str, cause: str, pin: bool
) -> Revision:
    """Replace what is live without a failed request. Raises RolloutFailed, and remembers it."""
    app = plan.candidate.release.app
    with opened() as it:
        return await asyncio.to_thread(
            release.roll_out,
            await it.registry(registry, app),
            await it.runtime(runtime, registry),
            plan,
            environment,
            cause=cause,
            run=run_url(),
            pin=pin,
            say=say(),
            refused=lambda reason: _failed(plan.candidate.release, environment, reason),
        )


@step("repair what is live", timeout_seconds=3600)
async def repair(plan: Plan, environment: str, registry: str, runtime: str) -> Revision:
    """Bring the live release back to how it was rolled out."""
    assert plan.live is not None  # noqa: S101 only what is live is ever repaired
    with opened() as it:
        client = await it.registry(registry, plan.live.release.app)
        target = await it.runtime(runtime, registry)
        return await asyncio.to_thread(release.repair, client, target, plan.live, environment, say=say())


@step("write the report")
async def write_report(
    revision: Revision, plan: Plan, environment: str, registry: str, runtime: str, steps: list[report.Step]
) -> None:
    """The release report and two links, for people who look at the run in the UI."""
    service = release.service_of(plan.candidate.config, environment)
    with opened() as it:
        url = await asyncio.to_thread((await it.runtime(runtime, registry)).url, service)
        place = await it.block(ContainerRegistry, registry)
    text = report.release_report(
        revision,
        environment=environment,
        url=url,
        steps=steps,
        replaced=plan.live,
        candidate=plan.candidate,
    )
    announce(
        RELEASE_LIVE,
        app_resource(revision.release.app),
        told(revision.release, environment, url=url, revision=revision.number, cause=revision.cause),
    )
    await acreate_markdown_artifact(text, key=f"{service}-release", description=revision.release.title)
    await acreate_link_artifact(url, link_text=f"{service}", key=f"{service}-service")
    await acreate_link_artifact(
        place.manifest_url(revision.release.app, revision.release.image),
        link_text=plan.candidate.reference,
        key=f"{service}-image",
    )


def _failed(release: Release, environment: str, reason: str) -> None:
    announce(RELEASE_FAILED, app_resource(release.app), told(release, environment, reason=reason))
