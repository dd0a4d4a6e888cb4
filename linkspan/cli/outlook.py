"""What the next run of build-and-deploy would do, found out without doing it.

It asks the same sources and the same `release.steps.plan` as the flow, so `status` cannot disagree with what
happens. A source that is away hides nothing of the others: it becomes a problem in the list.
"""

from pydantic import Field

from linkspan.cli.context import Context
from linkspan.code.image import tested_image
from linkspan.errors import LinkspanError, ServerError
from linkspan.local.prefect_settings import POOL
from linkspan.models.package import packaged_already
from linkspan.nouns import Commit, Model, Noun, Revision, short
from linkspan.release import newest
from linkspan.release import steps as release
from linkspan.release.converge import Decision, waiting_for


class NewestCommit(Commit):
    """The newest commit, and whether its tested image is in the registry."""

    tested: bool


class NewestModel(Noun):
    """The newest model in the store, and whether its validated layer is in the registry."""

    name: str
    version: str
    validated: bool


class Outlook(Noun):
    """What is newest, what happens next in a sentence, and what stands in its way.

    `tested` and `validated` are the newest of each stream that may be released, older ones it may be.
    `action` is what `converge.decide` says; `waiting` while a stream has produced nothing, `unknown` while
    a source cannot be asked.
    """

    commit: NewestCommit | None = None
    model: NewestModel | None = None
    tested: Commit | None = None
    validated: Model | None = None
    action: str = "unknown"
    next: str = ""
    problems: list[str] = Field(default_factory=list)


def look(context: Context, live: Revision | None) -> Outlook:
    """Ask all sources; the plan asks by itself what is live. Raises ServerError if Prefect is away."""
    problems = _stopped(context)
    commit = code = model = packaged = decision = None
    asked = True
    try:
        commit = _newest_commit(context)
        code = newest.newest_code(context.source, context.registry)
        config = newest.usable_config(context.source, problems.append)
        if config:
            model = _newest_model(context, config.model.name, config.model.path)
        if code:
            store = context.models(code.config.model.name)
            packaged = newest.newest_model(
                store,
                context.registry,
                code.config.model.path,
                live=lambda: live.release.model if live else None,
            )
        if code and packaged:
            environment = context.service.environment
            plan = release.plan(context.registry, context.runtime, code, packaged, environment)
            decision = plan.decision
    except ServerError:
        raise
    except LinkspanError as error:
        asked = False
        problems.append(str(error))
    if not asked:
        action, step = "unknown", "Unknown until that is mended. What is live stays live"
    elif decision is None:
        action, step = "waiting", waiting_for(code)
    else:
        action, step = decision.action, sentence(decision, context.release_deployment)
    if asked and not (decision and decision.action == "pinned"):
        step += behind(commit, model, context)
    return Outlook(
        commit=commit,
        model=model,
        tested=code.commit if code else None,
        validated=packaged.model if packaged else None,
        action=action,
        next=step + ".",
        problems=problems,
    )


def sentence(decision: Decision, deployment: str) -> str:
    """What a decision means for somebody who waits, without a full stop."""
    reason = decision.reason.rstrip(".")
    match decision.action:
        case "nothing":
            return f"Nothing to do: {reason}"
        case "repair":
            return f"{reason}: the next run of {deployment} repairs it"
        case "held":
            return f"{reason}. `linkspan deploy` tries it again"
        case "release":
            return f"{reason}: the next run of {deployment} releases it"
        case _:
            return reason


def behind(commit: NewestCommit | None, model: NewestModel | None, context: Context) -> str:
    """What is newer than what could be released, as further sentences."""
    text = ""
    if commit and not commit.tested:
        text += f". Commit {short(commit.sha)} is not tested yet: {context.app_deployment} does that"
    if model and not model.validated:
        what = f"Model {model.name} {model.version}".rstrip()
        text += f". {what} is not validated yet: {context.model_deployment} does that"
    return text


def _newest_commit(context: Context) -> NewestCommit | None:
    found = context.source.newest()
    if found is None:
        return None
    tested = tested_image(context.registry, found) is not None
    return NewestCommit(**found.model_dump(), tested=tested)


def _newest_model(context: Context, name: str, folder: str) -> NewestModel | None:
    pinned = context.models(name).newest()
    if pinned is None:
        return None
    packaged = packaged_already(context.registry, pinned, folder)
    version = pinned.version or (packaged.model.version if packaged else "")
    return NewestModel(name=name, version=version, validated=packaged is not None)


def _stopped(context: Context) -> list[str]:
    """Why nothing would happen: no worker, or a flow whose last run failed."""
    found = []
    if not any(worker.online for worker in context.server.workers(POOL)):
        found.append(f"No worker of pool {POOL} is online, so no run starts. Run `linkspan up`")
    for deployment in (context.app_deployment, context.model_deployment, context.release_deployment):
        last = [run for run in context.server.recent_runs(deployment, limit=10) if run.final]
        last = [run for run in last if run.state_type != "CANCELLED"]
        if last and last[0].state_name == "HeldBack" and deployment != context.release_deployment:
            found.append(last[0].message)
        if last and (error := last[0].failure) is not None:
            found.append(f"The last run of {deployment} failed: {error}")
    return found
