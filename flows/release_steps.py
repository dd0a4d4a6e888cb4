"""The steps of build-and-deploy: what is newest, what should happen, and doing it."""

import asyncio

from prefect.artifacts import acreate_link_artifact, acreate_markdown_artifact

from blocks import ContainerRegistry, DockerRuntime, GitRepository, ImageBuilder
from flows.support import load, say, step
from linkspan import docker_engine, release, report
from linkspan.converge import CodeImage, Decision, PackagedModel, decide
from linkspan.errors import RolloutFailed, SmokeFailed
from linkspan.newest import newest_code, newest_model
from linkspan.nouns import Noun, Revision
from linkspan.release import Candidate, rejection_key, rollout_of
from linkspan.runtimes.base import Service
from linkspan.smoke import SmokeResult, smoke
from linkspan.stores.settings import StoreSettings
from linkspan.verdicts import pardon, reject, rejection


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
    app: str, store: str, registry: str, code: CodeImage, version: str | None
) -> PackagedModel | None:
    """The newest model that was validated, or the one that was asked for, packed where this code wants it."""
    models = (await load(StoreSettings, store)).models(code.config.model.name)
    client = (await load(ContainerRegistry, registry)).open(app)
    return await asyncio.to_thread(newest_model, models, client, code.config.model.path, version)


@step("compare with what is live")
async def compare(
    code: CodeImage, model: PackagedModel, environment: str, registry: str, runtime: str, on_purpose: bool
) -> Plan:
    """Link the pair in memory and decide what should happen. Pushes nothing."""
    settings = await load(ContainerRegistry, registry)
    client = settings.open(code.config.name)
    platform = (await load(DockerRuntime, runtime)).open(settings.docker_auth())
    service = Service(app=code.config.name, environment=environment)

    def look() -> Plan:
        candidate, _ = release.propose(client, code, model)
        live = platform.live(service)
        replicas = code.config.environment(environment).replicas
        image = candidate.release.image
        known = rejection(client, rejection_key(image)) or rejection(
            client, rejection_key(image, environment)
        )
        decision = decide(
            candidate.release,
            live,
            healthy=live is not None and platform.healthy(service, replicas),
            rejection=known,
            on_purpose=on_purpose,
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
        key = rejection_key(candidate.release.image)
        client = settings.open(candidate.release.app)
        try:
            result = smoke(
                docker_engine.engine(engine_settings.base_url),
                candidate.reference,
                candidate.config,
                auth=settings.docker_auth(),
                env=candidate.config.environment(environment).env,
                say=write,
            )
        except SmokeFailed as error:
            reject(client, key, what=candidate.release.title, reason=str(error))
            raise
        pardon(client, key)
        return result

    return await asyncio.to_thread(run)


@step("make it a release")
async def confirm(plan: Plan, registry: str) -> str:
    """Put the tag that makes the candidate a release: the last thing that is pushed."""
    client = (await load(ContainerRegistry, registry)).open(plan.candidate.release.app)
    return await asyncio.to_thread(release.confirm, client, plan.candidate.release)


@step("roll out", timeout_seconds=3600)
async def roll_out(plan: Plan, environment: str, registry: str, runtime: str, cause: str) -> Revision:
    """Replace what is live without a failed request. Raises RolloutFailed, and remembers it."""
    settings = await load(ContainerRegistry, registry)
    platform = (await load(DockerRuntime, runtime)).open(settings.docker_auth())
    candidate, write = plan.candidate, say()
    wanted = rollout_of(
        candidate.release,
        candidate.config,
        reference=candidate.reference,
        environment=environment,
        cause=cause,
        expect=plan.live.number if plan.live else 0,
    )

    def run() -> Revision:
        client = settings.open(candidate.release.app)
        key = rejection_key(candidate.release.image, environment)
        try:
            revision = platform.roll_out(wanted, say=write)
        except RolloutFailed as error:
            reject(client, key, what=candidate.release.title, reason=str(error))
            raise
        pardon(client, key)
        return revision

    return await asyncio.to_thread(run)


@step("repair what is live", timeout_seconds=3600)
async def repair(plan: Plan, environment: str, registry: str, runtime: str) -> Revision:
    """Bring the live release back to how it was rolled out."""
    settings = await load(ContainerRegistry, registry)
    platform = (await load(DockerRuntime, runtime)).open(settings.docker_auth())
    assert plan.live is not None  # noqa: S101 only what is live is ever repaired
    live, write = plan.live, say()

    def run() -> Revision:
        client = settings.open(live.release.app)
        return platform.roll_out(release.again(client, live, environment), say=write)

    return await asyncio.to_thread(run)


@step("write the report")
async def write_report(
    revision: Revision, plan: Plan, environment: str, runtime: str, steps: list[report.Step]
) -> None:
    """The release report and two links, for people who look at the run in the UI."""
    platform = (await load(DockerRuntime, runtime)).open(None)
    service = Service(app=revision.release.app, environment=environment)
    url = await asyncio.to_thread(platform.url, service)
    text = report.release_report(
        revision,
        environment=environment,
        image=plan.candidate.reference,
        url=url,
        steps=steps,
        replaced=plan.live,
    )
    await acreate_markdown_artifact(text, key=f"{service}-release", description=revision.release.title)
    await acreate_link_artifact(url, link_text=f"{service}", key=f"{service}-service")
    await acreate_link_artifact(
        f"https://{plan.candidate.reference}", link_text=plan.candidate.reference, key=f"{service}-image"
    )
