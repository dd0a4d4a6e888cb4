"""`linkspan history`: what was rolled out, failures too."""

from typing import TYPE_CHECKING, Annotated

import typer

from linkspan.cli.options import AppOption, EnvironmentOption, JsonOption
from linkspan.cli.output import ago, columns, one_line, out, plain, print_json

if TYPE_CHECKING:
    from linkspan.nouns import Revision

HEADINGS = ("Rev", "When", "Outcome", "Model", "Commit", "Image", "Started by")
NARROW = 100  # columns; on a terminal with fewer there is no room for images and whole subjects
COLOURS = {"live": "green", "failed": "red", "replaced": "dim"}


def history(
    app: AppOption = "",
    environment: EnvironmentOption = "production",
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="NUMBER", help="How many revisions.", min=1)
    ] = 20,
    as_json: JsonOption = False,
) -> None:
    """List what was rolled out, newest first, failures too."""
    from linkspan.cli.context import Context

    context = Context(app, environment)
    revisions = context.runtime.history(context.service)[:limit]
    if as_json:
        print_json([revision.model_dump(mode="json") for revision in revisions])
        return
    if not revisions:
        out().print(f"Nothing was rolled out to {context.service} yet.")
        return
    narrow = out().width < NARROW
    headings = [heading for heading in HEADINGS if not (narrow and heading == "Image")]
    columns(out(), [_row(revision, narrow=narrow) for revision in revisions], headings)
    failed = [revision for revision in revisions if revision.reason]
    if failed:
        out().print()
        columns(out(), [(f"[red]{r.number} failed:[/]", plain(one_line(r.reason))) for r in failed])


def _row(revision: "Revision", *, narrow: bool) -> tuple[str, ...]:
    from linkspan.nouns import short

    release = revision.release
    outcome = f"[{COLOURS[revision.outcome]}]{revision.outcome}[/]"
    room = 12 if narrow else 40
    subject = release.commit.subject
    subject = subject if len(subject) <= room else subject[: room - 1].rstrip() + "…"
    return (
        str(revision.number),
        ago(revision.at),
        outcome + (" [yellow]pinned[/]" if revision.pinned else ""),
        plain(release.model.version),
        plain(f"{short(release.commit.sha)} {subject}"),
        *([] if narrow else [short(release.image)]),
        plain(revision.cause),
    )
