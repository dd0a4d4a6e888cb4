"""Follows runs in the terminal until they end."""

import time
from collections.abc import Callable

from rich.markup import escape

from linkspan.cli.context import Context
from linkspan.cli.output import err, note
from linkspan.engine import LogLine, Run
from linkspan.errors import RunFailed
from linkspan.nouns import Release

COLOURS = {"COMPLETED": "green", "FAILED": "red", "CRASHED": "red", "CANCELLED": "yellow"}
LIVE_SECONDS = 1800.0


def follow(context: Context, run_id: str) -> Run:
    """Print a run's log until it ends. Raises RunFailed unless it completed."""
    last: Run | None = None
    for item in context.engine.follow(run_id):
        if isinstance(item, LogLine):
            style = {"ERROR": "red", "CRITICAL": "red", "WARNING": "yellow"}.get(item.level, "dim")
            err.print(f"  {item.at.astimezone():%H:%M:%S} [{style}]{escape(item.message)}[/]")
        else:
            last = item
            colour = COLOURS.get(item.state_type, "cyan")
            err.print(f"[{colour}]{escape(item.state_name)}[/] {escape(item.name)} {escape(item.message)}")
    assert last is not None  # noqa: S101 follow always ends with the run
    last.raise_for_state()
    return last


def follow_to_live(context: Context, run_id: str, wanted: Callable[[Release], bool]) -> dict[str, object]:
    """Follow a stream, then the release it started, until a wanted release is live.

    Raises RunFailed if a run fails, or if it ends without the release going live.
    """
    run = follow(context, run_id)
    note(f"Waiting for {context.service} to go live")
    seen: set[str] = set()
    end = time.monotonic() + LIVE_SECONDS
    while time.monotonic() < end:
        revision = context.runtime.live(context.service)
        if revision and wanted(revision.release):
            url = context.runtime.url(context.service)
            err.print(f"[green]Live[/] {escape(revision.release.title)} at {url}")
            return {"revision": revision.model_dump(mode="json"), "url": url}
        for release in context.engine.recent_runs(context.release_deployment, limit=5):
            if release.created < run.created or release.id in seen:
                continue
            if release.final and release.state_type != "CANCELLED":
                seen.add(release.id)
                release.raise_for_state()
                note(f"{release.name}: {release.state_name} {release.message}")
        time.sleep(0.5)
    raise RunFailed(
        f"{context.service} did not go live in {LIVE_SECONDS:.0f} s", fix=f"See {context.engine.ui_url}"
    )
