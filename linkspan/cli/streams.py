"""Each of the two streams in a line: what its source has, what came of it, who told last that it changed."""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from linkspan.nouns import Noun, Revision, short

if TYPE_CHECKING:
    from linkspan.cli.context import Context
    from linkspan.cli.outlook import Outlook
    from linkspan.prefect_api.server import Run

# A schedule makes its runs ahead of time, and each hint that is superseded leaves one too.
_RUNS = 50


class LastHint(Noun):
    """The last time that somebody said that the source may have changed; the schedule does not count."""

    text: str
    at: datetime
    run: str


class Stream(Noun):
    """From source to service. `held` says why what was seen is not built; all may be empty."""

    seen: str = ""
    built: str = ""
    held: str = ""
    live: str = ""
    hint: LastHint | None = None


def streams(context: "Context", outlook: "Outlook", live: Revision | None) -> dict[str, Stream]:
    """Both streams by name: `code` (short shas) and `model` (versions)."""
    commit, model = outlook.commit, outlook.model
    running = live.release if live else None
    return {
        "code": _stream(
            context.server.recent_runs(context.app_deployment, limit=_RUNS),
            seen=short(commit.sha) if commit else "",
            built=short(outlook.tested.sha) if outlook.tested else "",
            live=short(running.commit.sha) if running else "",
        ),
        "model": _stream(
            context.server.recent_runs(context.model_deployment, limit=_RUNS),
            seen=model.version if model else "",
            built=outlook.validated.version if outlook.validated else "",
            live=running.model.version if running else "",
        ),
    }


def _stream(runs: "list[Run]", *, seen: str, built: str, live: str) -> Stream:
    return Stream(
        seen=seen, built=built, held="" if seen == built else why_not(runs), live=live, hint=last_hint(runs)
    )


def why_not(runs: "Iterable[Run]") -> str:
    """What the last run that ended has against what is newest; `runs` are newest first."""
    ended = next((run for run in runs if run.final and run.state_type != "CANCELLED"), None)
    if ended is None:
        return ""
    if ended.failure is not None:
        return str(ended.failure)
    return ended.message if ended.state_name == "HeldBack" else ""


def last_hint(runs: "Iterable[Run]") -> LastHint | None:
    """Who said it last, as the run that it started was told; also of one that was superseded."""
    for run in runs:
        if not run.scheduled and (text := run.parameters.get("hint")):
            return LastHint(text=str(text), at=run.created, run=run.url)
    return None
