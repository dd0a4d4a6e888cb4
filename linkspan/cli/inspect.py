"""`linkspan status` and `linkspan history`: what runs, what is newest, what is held, what was."""

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from linkspan.cli.context import AppOption, Context, EnvironmentOption, JsonOption
from linkspan.cli.output import ago, out, print_json
from linkspan.code_image import tested_image
from linkspan.errors import LinkspanError
from linkspan.model_layer import packaged_already
from linkspan.newest import newest_config
from linkspan.nouns import Revision, short


def status(
    app: AppOption = "", environment: EnvironmentOption = "production", as_json: JsonOption = False
) -> None:
    """Show what is live, what is newest, and what happens next."""
    context = Context(app, environment)
    live = context.runtime.live(context.service)
    facts: dict[str, Any] = {
        "service": str(context.service),
        "url": context.runtime.url(context.service) if live else None,
        "live": live and live.model_dump(mode="json"),
        "pinned": bool(live and live.pinned),
        **_newest(context),
        "runs": [
            {
                "name": run.name,
                "state": run.state_name,
                "message": run.message,
                "url": run.url,
                "created": run.created,
            }
            for run in context.engine.recent_runs(context.release_deployment, limit=5)
        ],
    }
    if as_json:
        print_json(facts)
    else:
        _print(live, facts)


def _newest(context: Context) -> dict[str, Any]:
    # A source that is away must not hide what is live: say so in its place.
    facts: dict[str, Any] = {"commit": None, "model": None, "problems": []}
    try:
        commit = context.source.newest()
        if commit:
            tested = tested_image(context.registry, commit) is not None
            facts["commit"] = {**commit.model_dump(mode="json"), "tested": tested}
            config = newest_config(context.source)
            if config:
                pinned = context.models(config.model.name).newest()
                if pinned:
                    packaged = packaged_already(context.registry, pinned, config.model.path)
                    facts["model"] = {
                        "name": pinned.name,
                        "version": pinned.version or (packaged.model.version if packaged else ""),
                        "validated": packaged is not None,
                    }
    except LinkspanError as error:
        facts["problems"].append(str(error))
    return facts


def _print(live: Revision | None, facts: dict[str, Any]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    if live:
        release = live.release
        table.add_row("Service", f"{facts['service']}  {facts['url']}")
        table.add_row(
            "Live", f"{escape(release.title)}  (revision {live.number}, {ago(live.at)}, {escape(live.cause)})"
        )
        table.add_row(
            "Commit",
            f"{short(release.commit.sha)} {escape(release.commit.subject)} — {escape(release.commit.author)}",
        )
        table.add_row(
            "Model", f"{release.model.name} {release.model.version} — {escape(release.model.published_by)}"
        )
        table.add_row("Image", release.image)
        if live.pinned:
            table.add_row("[yellow]Pinned[/]", "The flows leave it alone until `linkspan deploy`")
    else:
        table.add_row("Service", f"{facts['service']}  nothing is live yet")
    commit, model = facts["commit"], facts["model"]
    newest = (
        f"{short(commit['sha'])} {escape(commit['subject'])} ({_state(commit['tested'], 'tested')})"
        if commit
        else "none"
    )
    table.add_row("Newest commit", newest)
    table.add_row(
        "Newest model",
        f"{model['name']} {model['version']} ({_state(model['validated'], 'validated')})"
        if model
        else "none",
    )
    for problem in facts["problems"]:
        table.add_row("[red]Problem[/]", escape(problem))
    out.print(table)
    if facts["runs"]:
        out.print("\n[bold]Last runs[/]")
        for run in facts["runs"]:
            out.print(
                f"  {ago(run['created']):>12}  {escape(run['name'])}: {run['state']} {escape(run['message'])}"
            )


def _state(done: bool, word: str) -> str:
    return f"[green]{word}[/]" if done else f"[yellow]not {word}[/]"


def history(
    app: AppOption = "",
    environment: EnvironmentOption = "production",
    limit: Annotated[int, typer.Option(help="How many revisions.", min=1)] = 20,
    as_json: JsonOption = False,
) -> None:
    """List what was rolled out, newest first, failures too."""
    context = Context(app, environment)
    revisions = context.runtime.history(context.service)[:limit]
    if as_json:
        print_json([revision.model_dump(mode="json") for revision in revisions])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("Rev", "When", "Commit", "Model", "Image", "Outcome", "Started by"):
        table.add_column(column, overflow="fold")
    colours = {"live": "green", "failed": "red", "replaced": "dim"}
    for revision in revisions:
        release = revision.release
        outcome = f"[{colours[revision.outcome]}]{revision.outcome}[/]" + (
            " (pinned)" if revision.pinned else ""
        )
        table.add_row(
            str(revision.number),
            ago(revision.at),
            f"{short(release.commit.sha)} {escape(release.commit.subject[:40])}",
            release.model.version,
            short(release.image),
            outcome + (f" {escape(revision.reason[:120])}" if revision.reason else ""),
            escape(revision.cause),
        )
    out.print(table if revisions else "Nothing was rolled out yet.")
