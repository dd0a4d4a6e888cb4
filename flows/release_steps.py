"""The steps of build-and-deploy: what is newest, what should happen, and doing it."""

import asyncio

from prefect.artifacts import acreate_link_artifact, acreate_markdown_artifact

from blocks import ContainerRegistry, GitRepository, ImageBuilder
from flows.support import announce, load, run_url, say, step
from linkspan import engine as docker_engine
from linkspan.errors import RolloutFailed, SmokeFailed
from linkspan.events import RELEASE_FAILED, RELEASE_LIVE, app_resource, told
from linkspan.ledger.tags import rejection_key
from linkspan.ledger.values import CodeImage, PackagedModel
from linkspan.ledger.verdicts import pardon, reject, rejection
from linkspan.models import open_models
from linkspan.nouns import Model, Noun, Release, Revision
from linkspan.release import candidate as release
from linkspan.release import report
from linkspan.release.candidate import Candidate, rollout_of
from linkspan.release.converge import Decision, decide
from linkspan.release.newest import newest_code, newest_model
from linkspan.release.smoke import SmokeResult, smoke
from linkspan.runtimes.base import RuntimeSettings
from linkspan.stores.settings import StoreSettings


class Plan(Noun):
    """A linked pair, what is live, and what should happen."""

    decision: Decision
    candidate: Candidate
    live: Revision | None
    pushed: int = 0


@step("find the newest code")
async def find_code(app: str, repository: str, registry: str, commit: str | None) -> CodeImage | None:
    """The newest commit whose tests passed, or the one that was asked for."""
    source = (await load(GitRepository, repository)).open()
    client = (await load(ContainerRegistry, registry)).open(app)
    return await asyncio.to_thread(newest_code, source, client, commit)


@step("find the newest model")
async def find_model(
    environment: str, store: str, registry: str, runtime: str, code: CodeImage, version: str | None
) -> PackagedModel | None:
    """The newest model that was validated, or the one that was asked for, packed where this code wants it."""
    models = open_models(await load(StoreSettings, store), code.config.model.name)
    settings = await load(ContainerRegistry, registry)
    target = await load(RuntimeSettings, runtime)
    service = release.service_of(code.config, environment)

    def live() -> Model | None:
        revision = target.open(settings.docker_auth()).live(service)
        return revision.release.model if revision else None

    def look() -> PackagedModel | None:
        client = settings.open(code.config.name)
        return newest_model(models, client, code.config.model.path, version, live=live)

    return await asyncio.to_thread(look)


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
    """Link the pair in memory and decide what should happen. Pushes nothing."""
    settings = await load(ContainerRegistry, registry)
    client = settings.open(code.config.name)
    platform = (await load(RuntimeSettings, runtime)).open(settings.docker_auth())
    service = release.service_of(code.config, environment)

    def look() -> Plan:
        platform.refresh(service)
        candidate, _ = release.propose(client, code, model)
        live = platform.live(service)
        decision = decide(
            candidate.release,
            live,
            drift=platform.drift(service, release.replicas_of(client, live, candidate, environment))
            if live
            else "",
            rejection=rejection(client, rejection_key(candidate.release.image, environment)),
            on_purpose=on_purpose,
            pin=pin,
        )
        return Plan(decision=decision, candidate=candidate, live=live)

    return await asyncio.to_thread(look)


@step("link")
async def link(code: CodeImage, model: PackagedModel, plan: Plan, registry: str) -> Plan:
    """Push the candidate: one configuration and one manifest, by digest. It is not a release yet."""
    client = (await load(ContainerRegistry, registry)).open(code.config.name)

    def push() -> int:
        _, linked = release.propose(client, code, model)
        return release.push_candidate(client, linked)

    return plan.model_copy(update={"pushed": await asyncio.to_thread(push)})


@step("smoke-test the linked image", timeout_seconds=1800)
async def smoke_test(plan: Plan, environment: str, registry: str, builder: str) -> SmokeResult:
    """Run the candidate and send the app's smoke request. Raises SmokeFailed, and remembers it."""
    settings = await load(ContainerRegistry, registry)
    engine_settings = await load(ImageBuilder, builder)
    candidate, write = plan.candidate, say()

    def run() -> SmokeResult:
        where = candidate.config.environment(environment)
        try:
            return smoke(
                docker_engine.engine(engine_settings.base_url),
                candidate.reference,
                candidate.config,
                auth=settings.docker_auth(),
                env=where.env,
                memory=where.memory,
                say=write,
            )
        except SmokeFailed as error:
            _refuse(settings, candidate.release, environment, str(error))
            raise

    return await asyncio.to_thread(run)


@step("make it a release")
async def confirm(plan: Plan, registry: str) -> str:
    """Put the tag that makes the candidate a release: the last thing that is pushed."""
    client = (await load(ContainerRegistry, registry)).open(plan.candidate.release.app)
    return await asyncio.to_thread(release.confirm, client, plan.candidate.release)


@step("roll out", timeout_seconds=3600)
async def roll_out(
    plan: Plan, environment: str, registry: str, runtime: str, cause: str, pin: bool
) -> Revision:
    """Replace what is live without a failed request. Raises RolloutFailed, and remembers it."""
    settings = await load(ContainerRegistry, registry)
    platform = (await load(RuntimeSettings, runtime)).open(settings.docker_auth())
    candidate, write = plan.candidate, say()
    wanted = rollout_of(
        candidate.release,
        candidate.config,
        reference=candidate.reference,
        objects=candidate.objects,
        environment=environment,
        cause=cause,
        run=run_url(),
        expect=plan.live.number if plan.live else 0,
        pinned=pin,
    )

    def run() -> Revision:
        live = platform.live(wanted.service)
        # A try before this one may have got as far as the switch: then it is finished, not a conflict.
        again = live is not None and live.release.image == candidate.release.image
        rollout = wanted.model_copy(update={"expect": live.number}) if live and again else wanted
        try:
            revision = platform.roll_out(rollout, say=write)
        except RolloutFailed as error:
            # Only what was tried and did not become ready is at fault, not what could not even be started.
            newest = next(iter(platform.history(wanted.service)), None)
            if newest and newest.outcome == "failed" and newest.release.image == candidate.release.image:
                _refuse(settings, candidate.release, environment, str(error))
            raise
        with settings.open(candidate.release.app) as client:
            pardon(client, rejection_key(candidate.release.image, environment))
        return revision

    return await asyncio.to_thread(run)


def _refuse(settings: ContainerRegistry, release: Release, environment: str, reason: str) -> None:
    """Remember that a release is bad in this environment, and say so in the feed."""
    with settings.open(release.app) as client:
        reject(client, rejection_key(release.image, environment), what=release.title, reason=reason)
    announce(RELEASE_FAILED, app_resource(release.app), told(release, environment, reason=reason))


@step("repair what is live", timeout_seconds=3600)
async def repair(plan: Plan, environment: str, registry: str, runtime: str) -> Revision:
    """Bring the live release back to how it was rolled out."""
    settings = await load(ContainerRegistry, registry)
    platform = (await load(RuntimeSettings, runtime)).open(settings.docker_auth())
    assert plan.live is not None  # noqa: S101 only what is live is ever repaired
    live, write = plan.live, say()

    def run() -> Revision:
        client = settings.open(live.release.app)
        return platform.roll_out(release.again(client, live, environment), say=write)

    return await asyncio.to_thread(run)


@step("write the report")
async def write_report(
    revision: Revision, plan: Plan, environment: str, registry: str, runtime: str, steps: list[report.Step]
) -> None:
    """The release report and two links, for people who look at the run in the UI."""
    settings = await load(ContainerRegistry, registry)
    platform = (await load(RuntimeSettings, runtime)).open(settings.docker_auth())
    service = release.service_of(plan.candidate.config, environment)
    url = await asyncio.to_thread(platform.url, service)
    text = report.release_report(
        revision,
        environment=environment,
        image=plan.candidate.reference,
        url=url,
        steps=steps,
        replaced=plan.live,
    )
    announce(
        RELEASE_LIVE,
        app_resource(revision.release.app),
        told(revision.release, environment, url=url, revision=revision.number, cause=revision.cause),
    )
    await acreate_markdown_artifact(text, key=f"{service}-release", description=revision.release.title)
    await acreate_link_artifact(url, link_text=f"{service}", key=f"{service}-service")
    await acreate_link_artifact(
        settings.manifest_url(revision.release.app, revision.release.image),
        link_text=plan.candidate.reference,
        key=f"{service}-image",
    )
