"""`linkspan events`: what arrives, what it starts, and what becomes of it."""

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linkspan.cli.output import columns, note, one_line, out, plain
from linkspan.errors import ConfigError

if TYPE_CHECKING:
    from linkspan.prefect_api.server import Event

EXAMPLES = """\b
Examples:
  linkspan events                the last hour
  linkspan events --follow       and whatever comes, until Ctrl-C
  linkspan events --since 2d --json | jq .name
"""

OURS = "linkspan."
RUNS = "prefect.flow-run."
# The steps between "it will run" and "it runs" say nothing to a person.
_PASSING = frozenset({"Pending", "Submitting", "InfrastructurePending", "heartbeat", "Late"})
_COLOURS = {"Completed": "green", "Failed": "red", "Crashed": "red", "Running": "cyan"}
_WIDTH = len("release.rolled-back")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def events(
    app: Annotated[
        str, typer.Option("--app", "-a", metavar="NAME", help="Only what is about this app.")
    ] = "",
    since: Annotated[str, typer.Option(metavar="TIME", help="How far back: 30s, 10m, 2h or 7d.")] = "1h",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it comes, until Ctrl-C.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="NUMBER", help="At most so many.", min=1)
    ] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per line.")] = False,
) -> None:
    """Show what arrived, what it started and what became of it.

    From Prefect's feed of events, which other people's automations read too. The feed may lose some when a
    server dies; the runs themselves are never lost.
    """
    from datetime import UTC, datetime

    from linkspan.local.known import known_server

    begin = datetime.now(UTC) - span(since)
    shown = 0
    with known_server() as server:
        found = server.events(
            (OURS, RUNS), since=begin, limit=limit, wanted=lambda event: about(event, app), follow=follow
        )
        for event in found:
            shown += 1
            if as_json:
                print(event.model_dump_json(), flush=True)  # noqa: T201 a result
            else:
                columns(out(), [line(event)])
    if not shown and not as_json:
        note(f"Nothing since {since} ago. `linkspan events --follow` waits for what comes.")


def span(text: str) -> timedelta:
    """The time that `10m` means. Raises ConfigError."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if not found:
        raise ConfigError(f"--since {text!r} is no time", expected="30s, 10m, 2h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def about(event: "Event", app: str) -> bool:
    """Whether it is worth a line: ours, or a run of ours that started, waits or ended."""
    if event.name.startswith(RUNS):
        state = event.name.removeprefix(RUNS)
        return state not in _PASSING and "linkspan" in event.tags and app in {"", *event.tags}
    known = {event.payload.get("app"), event.resource.rpartition(".")[2]}
    started = str(event.payload.get("deployment") or "").partition("/")[2]
    return not app or app in {*known, started} or started.startswith(f"{app}-")


def line(event: "Event") -> tuple[str, ...]:
    """When, what, and of which; in words for a person."""
    at = f"{event.at.astimezone():%H:%M:%S}"
    if event.name.startswith(RUNS):
        state = event.name.removeprefix(RUNS)
        reason = (event.payload.get("validated_state") or {}).get("message") or ""
        reason = reason.removeprefix("Flow run encountered an exception: ")
        told = f"{event.subject}: {reason}" if reason else event.subject
        if state == "Scheduled" and event.deployment:
            # A run names itself once it runs; until then it has a name that Prefect made up.
            told = f"{event.flow}/{event.deployment} ({told})"
        return (
            f"[dim]{at}[/]",
            f"[{_COLOURS.get(state, 'yellow')}]{state:<{_WIDTH}}[/]",
            plain(one_line(told)),
        )
    what = event.name.removeprefix(OURS)
    return f"[dim]{at}[/]", f"[bold]{plain(what):<{_WIDTH}}[/]", plain(one_line(words(event)))


def words(event: "Event") -> str:
    """What an event of ours says, in one line."""
    said: dict[str, Any] = event.payload
    text = next((str(said[key]) for key in ("title", "text", "hint") if said.get(key)), "")
    if not text and isinstance(commit := said.get("commit"), dict):
        text = f"{str(commit.get('sha', ''))[:7]} {commit.get('subject', '')}"
    if not text and isinstance(model := said.get("model", said), dict):
        text = f"{model.get('name', '')} {model.get('version', '')}".strip()
    started = said.get("deployment")
    reason = f": {said['reason']}" if said.get("reason") else ""
    subject = event.subject or re.sub(r"^linkspan\.(app|model)\.", "", event.resource)
    if re.match(rf"{re.escape(subject)}\b", text):
        subject = ""  # "digits: digits v2"
    return ": ".join(filter(None, (subject, text))) + reason + (f" → {started}" if started else "")
