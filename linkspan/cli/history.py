"""`linkspan history`: what was rolled out, failures too."""

from typing import TYPE_CHECKING, Annotated

import typer

from linkspan.cli.options import AppOption, EnvironmentOption, JsonOption
from linkspan.cli.output import ago, columns, out, plain, print_json

if TYPE_CHECKING:
    from linkspan.nouns import Revision

HEADINGS = ("Rev", "When", "Outcome", "Commit", "Model", "Image", "Started by")
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
    columns(out(), [_row(revision) for revision in revisions], HEADINGS)
    failed = [revision for revision in revisions if revision.reason]
    if failed:
        out().print()
        columns(out(), [(f"[red]{r.number} failed:[/]", plain(_one_line(r.reason))) for r in failed])


def _row(revision: "Revision") -> tuple[str, ...]:
    from linkspan.nouns import short

    release = revision.release
    outcome = f"[{COLOURS[revision.outcome]}]{revision.outcome}[/]"
    subject = release.commit.subject
    return (
        str(revision.number),
        ago(revision.at),
        outcome + (" [yellow]pinned[/]" if revision.pinned else ""),
        plain(f"{short(release.commit.sha)} {subject if len(subject) <= 30 else subject[:29] + '…'}"),
        plain(release.model.version),
        short(release.image),
        plain(revision.cause),
    )


def _one_line(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 300 else flat[:299] + "…"
