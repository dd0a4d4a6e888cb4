"""`linkspan rollback`: back to a release that worked, with nothing built and nothing pushed."""

import getpass
from typing import Annotated

import typer

from linkspan.cli.context import AppOption, Context, EnvironmentOption, JsonOption
from linkspan.cli.output import note, out, print_json
from linkspan.errors import ReleaseNotFound
from linkspan.nouns import Revision, short
from linkspan.release import again


def rollback(
    to: Annotated[
        str,
        typer.Argument(
            help="A revision number, commit, model version or image digest. Default: the release before."
        ),
    ] = "",
    app: AppOption = "",
    environment: EnvironmentOption = "production",
    as_json: JsonOption = False,
) -> None:
    """Put an earlier release back and pin the environment to it until `linkspan deploy`."""
    context = Context(app, environment)
    live = context.runtime.live(context.service)
    target = choose(context.runtime.history(context.service), live, to)
    cause = f"rollback by {getpass.getuser()}"
    rollout = again(context.registry, target, environment).model_copy(
        update={"cause": cause, "pinned": True, "expect": live.number if live else 0}
    )
    revision = context.runtime.roll_out(rollout, say=note)
    context.engine.emit(
        "linkspan.release.rolled-back",
        f"linkspan.service.{context.service}",
        revision.model_dump(mode="json"),
    )
    if as_json:
        print_json(revision.model_dump(mode="json"))
        return
    out.print(f"[bold]{revision.release.title}[/] is live again as revision {revision.number}, and pinned.")
    note("The flows leave it alone until `linkspan deploy`.")


def choose(history: list[Revision], live: Revision | None, to: str) -> Revision:
    """The revision that `to` names; without `to` the newest that worked before the live release first did.

    So a second rollback goes further back, and never returns to what the first one left. Raises
    ReleaseNotFound, listing what there is.
    """
    worked = [revision for revision in history if revision.outcome != "failed"]
    first = min((r.number for r in worked if live and r.release.image == live.release.image), default=0)
    for revision in worked:
        if _names(to, revision) if to else revision.number < first:
            return revision
    known = ", ".join(f"{r.number} ({r.release.title})" for r in worked[:8])
    raise ReleaseNotFound(
        f"there is no release {to!r} to go back to" if to else "there is no earlier release to go back to",
        expected=known or "at least two releases",
        fix="`linkspan history` lists them",
    )


def _names(to: str, revision: Revision) -> bool:
    release = revision.release
    if to in {str(revision.number), release.model.version}:
        return True
    digest = release.image.removeprefix("sha256:")
    plain = to.removeprefix("sha256:")
    return len(plain) >= len(short(plain)) >= 7 and (
        digest.startswith(plain) or release.commit.sha.startswith(plain)
    )
