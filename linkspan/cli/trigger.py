"""`linkspan trigger`: what a git hook or a script calls to say that something may have changed."""

import enum
from typing import Annotated
from uuid import uuid4

import typer

from linkspan.cli.options import AppOption, EnvironmentOption
from linkspan.cli.output import note
from linkspan.errors import ServerUnavailable

EXAMPLES = """\b
Example, for a post-receive hook; the key makes a repeated push harmless:
  linkspan trigger commit --app digits --key "$old..$new"
"""


class Stream(enum.StrEnum):
    """What may have changed."""

    COMMIT = "commit"
    MODEL = "model"
    RELEASE = "release"


def trigger(
    what: Annotated[Stream, typer.Argument(help="What may have changed.")],
    app: AppOption = "",
    environment: EnvironmentOption = "production",
    hint: Annotated[str, typer.Option(metavar="TEXT", help="Who or what saw it, for people.")] = "",
    key: Annotated[
        str, typer.Option(metavar="TEXT", help="The same key starts one run, however often it is said.")
    ] = "",
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for a server that is away.")
    ] = 60.0,
) -> None:
    """Say that there may be a new commit or model.

    Starts the stream, once per key. The stream looks for itself what is newest, so a hint too many does no
    harm, and the schedule finds what no hint told.
    """
    from linkspan.cli.context import Context

    context = Context(app, environment)
    deployment = {
        Stream.COMMIT: context.app_deployment,
        Stream.MODEL: context.model_deployment,
        Stream.RELEASE: context.release_deployment,
    }[what]
    try:
        run = context.start(
            deployment, {"hint": hint}, once=f"trigger:{key or uuid4().hex}", patience=patience
        )
    except ServerUnavailable as error:
        raise ServerUnavailable(
            error.what,
            fix=f"Nothing is lost: once the server is back, the schedule of {deployment} looks by itself. "
            "`linkspan up` starts a server",
        ) from None
    note(f"{deployment} {'started' if run.created else 'was started before'} as {run.name}: {run.url}")
