"""`linkspan rollback`: back to a release that worked, with nothing built and nothing pushed."""

from typing import TYPE_CHECKING, Annotated

import typer

from linkspan.cli.options import AppOption, EnvironmentOption, JsonOption
from linkspan.cli.output import note, out, plain, print_json, warn, whoami
from linkspan.errors import ReleaseNotFound, ServerError

if TYPE_CHECKING:
    from linkspan.nouns import Revision

EXAMPLES = """\b
Examples:
  linkspan rollback             to the release before
  linkspan rollback 7           to that revision of `linkspan history`
  linkspan rollback v11         to the newest release with that model
  linkspan rollback 3fa9c1d     to the newest release with that commit
"""


def rollback(
    to: Annotated[
        str,
        typer.Argument(
            help="A revision number, model version, commit or image digest. Default: the release before.",
            show_default=False,
        ),
    ] = "",
    app: AppOption = "",
    environment: EnvironmentOption = "production",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would put back.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put an earlier release back and pin it.

    Nothing is built and nothing is pushed. The flows leave a pinned environment alone until `linkspan deploy`
    releases on purpose.
    """
    from linkspan.cli.context import Context
    from linkspan.events import RELEASE_ROLLED_BACK, app_resource
    from linkspan.release.steps import again

    context = Context(app, environment)
    live = context.runtime.live(context.service)
    target = choose(context.runtime.history(context.service), live, to)
    rollout = again(context.registry, target, environment).model_copy(
        update={"cause": f"rollback by {whoami()}", "pinned": True, "expect": live.number if live else 0}
    )
    if dry_run:
        if as_json:
            print_json(target.model_dump(mode="json"))
        else:
            out().print(
                f"Would put [bold]{plain(target.release.title)}[/] back, as in revision {target.number}."
            )
        return
    revision = context.runtime.roll_out(rollout, say=note)
    try:
        context.server.emit(
            RELEASE_ROLLED_BACK,
            app_resource(context.app),
            {
                "title": revision.release.title,
                "environment": environment,
                "reason": revision.cause,
                **revision.model_dump(mode="json", exclude={"reason"}),
            },
        )
    except ServerError as error:
        warn(f"it is done, but not in the event feed: {error.what}")
    if as_json:
        print_json(revision.model_dump(mode="json"))
        return
    stays = live is not None and live.number == revision.number
    what = "was live already" if stays else "is live again"
    out().print(
        f"[bold]{plain(revision.release.title)}[/] {what}, as revision {revision.number}, and is pinned now."
    )
    note("The flows leave it alone until `linkspan deploy`.")


def choose(history: "list[Revision]", live: "Revision | None", to: str) -> "Revision":
    """The revision that `to` names; without `to` the newest that worked before the live release first did.

    So a second rollback goes further back, and never returns to what the first one left. A number is a
    revision first, and a model version only if there is no such revision. Raises ReleaseNotFound, listing
    what there is.
    """
    worked = [revision for revision in history if revision.outcome != "failed"]
    first = min((r.number for r in worked if live and r.release.image == live.release.image), default=0)
    if to:
        found = [r for r in worked if str(r.number) == to] or [r for r in worked if _names(to, r)]
    else:
        found = [r for r in worked if r.number < first]
    if found:
        return found[0]
    known = ", ".join(f"{r.number} ({r.release.title})" for r in worked[:8])
    what = f"there is no release {to!r} to go back to" if to else "there is no earlier release to go back to"
    if any(str(r.number) == to for r in history):
        what = f"revision {to} never became ready, so there is nothing to go back to"
    raise ReleaseNotFound(
        what, expected=known or "at least two releases", fix="`linkspan history` lists them"
    )


def _names(to: str, revision: "Revision") -> bool:
    release = revision.release
    if to == release.model.version:
        return True
    digest = release.image.removeprefix("sha256:")
    prefix = to.removeprefix("sha256:").lower()
    # As many characters as we print of a commit and of a digest; fewer could be anything.
    return len(prefix) >= 7 and (digest.startswith(prefix) or release.commit.sha.startswith(prefix))
