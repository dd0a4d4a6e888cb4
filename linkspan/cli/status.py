"""`linkspan status`: what is live, what is newest, what happens next."""

from typing import TYPE_CHECKING

from linkspan.cli.options import AppOption, EnvironmentOption, JsonOption
from linkspan.cli.output import ago, columns, err, one_line, out, plain, print_json

if TYPE_CHECKING:
    from linkspan.cli.context import Context
    from linkspan.cli.outlook import Outlook
    from linkspan.cli.streams import Stream
    from linkspan.nouns import Revision
    from linkspan.prefect_api.server import Run

RUNS = 5
FAILURES = 3
# Runs that found nothing to do would fill the list: the schedule starts one every few minutes.
_IDLE = frozenset({"UpToDate", "Superseded"})


def status(
    app: AppOption = "", environment: EnvironmentOption = "production", as_json: JsonOption = False
) -> None:
    """Show what is live, what is newest, and what happens next."""
    from linkspan.cli.context import Context
    from linkspan.cli.outlook import look
    from linkspan.cli.streams import streams

    context = Context(app, environment)
    live = context.runtime.live(context.service)
    outlook = look(context, live)
    both = streams(context, outlook, live)
    runs = _runs(context)
    url = context.runtime.url(context.service) if live else None
    failed = failed_since(live, context.runtime.history(context.service))
    if as_json:
        print_json(
            {
                "service": str(context.service),
                "url": url,
                "live": live and live.model_dump(mode="json"),
                "pinned": bool(live and live.pinned),
                "failed": [revision.model_dump(mode="json") for revision in failed],
                **outlook.model_dump(mode="json", exclude={"tested", "validated"}),
                "streams": {name: each.model_dump(mode="json") for name, each in both.items()},
                "runs": [run.model_dump(exclude={"parameters"}) for _, run in runs],
            }
        )
        return
    columns(out(), [*_live(str(context.service), url, live), *map(_failed, failed), *_newest(outlook, both)])
    if runs:
        out().print("\n[bold]Last runs[/]")
        columns(out(), [_run(flow, run) for flow, run in runs])
    err().print(f"\n[dim]All runs: {context.server.ui_url}[/]")


def _live(service: str, url: str | None, live: "Revision | None") -> list[tuple[str, str]]:
    if live is None:
        return [("[bold]Service[/]", f"{service}: nothing is live yet")]
    release = live.release
    commit, model = release.commit, release.model
    by = f", by {model.published_by}" if model.published_by else ""
    rows = [
        ("[bold]Service[/]", f"{service} at {url}"),
        ("[bold]Live[/]", plain(f"{release.title}, revision {live.number}, {ago(live.at)}")),
        ("[bold]Started by[/]", plain(live.cause)),
        ("[bold]Commit[/]", plain(f"{commit.sha[:7]} {commit.subject}, by {commit.author}")),
        ("[bold]Model[/]", plain(f"{model.name} {model.version}{by}")),
        ("[bold]Image[/]", release.image),
    ]
    if live.pinned:
        rows.append(("[bold yellow]Pinned[/]", "The flows leave it alone until `linkspan deploy`"))
    return rows


def failed_since(live: "Revision | None", history: "list[Revision]") -> "list[Revision]":
    """What was tried in vain since the live revision, newest first."""
    number = live.number if live else 0
    return [each for each in history if each.outcome == "failed" and each.number > number][:FAILURES]


def _failed(revision: "Revision") -> tuple[str, str]:
    told = f"{revision.release.title}, revision {revision.number}, {ago(revision.at)}: {revision.reason}"
    return "[bold red]Failed[/]", plain(one_line(told))


def _newest(outlook: "Outlook", both: "dict[str, Stream]") -> list[tuple[str, str]]:
    commit, model = outlook.commit, outlook.model
    tested = _done(commit.tested, "tested", both["code"].built) if commit else ""
    validated = _done(model.validated, "validated", both["model"].built) if model else ""
    found = {
        "Newest commit": f"{plain(f'{commit.sha[:7]} {commit.subject}')} ({tested})" if commit else "none",
        "Newest model": f"{plain(f'{model.name} {model.version}')} ({validated})" if model else "none",
    }
    unknown = outlook.action == "unknown"
    rows = [
        (f"[bold]{label}[/]", "unknown" if unknown and text == "none" else text)
        for label, text in found.items()
    ]
    for label, stream in (("Commit hint", both["code"]), ("Model hint", both["model"])):
        if stream.hint:
            rows.append((f"[bold]{label}[/]", plain(f"{one_line(stream.hint.text)}, {ago(stream.hint.at)}")))
    rows += [("[bold red]Problem[/]", plain(" ".join(problem.split()))) for problem in outlook.problems]
    return [*rows, ("[bold]Next[/]", plain(outlook.next))]


def _done(yes: bool, word: str, built: str) -> str:
    if yes:
        return f"[green]{word}[/]"
    return f"[yellow]not {word}[/]; {plain(built)} is" if built else f"[yellow]not {word}[/]"


def _runs(context: "Context") -> "list[tuple[str, Run]]":
    """The last runs of all three flows, newest first."""
    found = [
        (deployment.partition("/")[0], run)
        for deployment in (context.app_deployment, context.model_deployment, context.release_deployment)
        for run in context.server.recent_runs(deployment, limit=4 * RUNS)
        if run.state_name not in _IDLE
    ]
    return sorted(found, key=lambda each: each[1].created, reverse=True)[:RUNS]


def _run(flow: str, run: "Run") -> tuple[str, ...]:
    colour = {"COMPLETED": "green", "FAILED": "red", "CRASHED": "red"}.get(run.state_type, "yellow")
    message = run.message.split("exception: ", 1)[-1].partition("\n")[0]
    # The message of a release says all that its name says.
    known = not message or run.name.partition(" →")[0] in message
    what = (message or run.name) if known else f"{run.name}: {message}"
    return (
        ago(run.created),
        flow,
        f"[{colour}]{run.state_name}[/]",
        plain(what if len(what) < 160 else what[:159] + "…"),
    )
