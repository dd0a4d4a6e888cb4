"""Follows runs in the terminal until they end."""

import re
import time
from collections.abc import Callable

from linkspan import errors
from linkspan.cli.context import Context
from linkspan.cli.output import err, note, plain
from linkspan.errors import LinkspanError, RunFailed, ServerUnavailable
from linkspan.nouns import Release
from linkspan.prefect_api.server import OUTAGE_SECONDS, LogLine, Run

COLOURS = {"COMPLETED": "green", "FAILED": "red", "CRASHED": "red", "CANCELLED": "yellow"}
LIVE_SECONDS = 1800.0
# States between waiting and running, and log lines, that only say that a process was started.
_ON_THE_WAY = frozenset({"Pending", "Submitting", "InfrastructurePending"})
_CHATTER = (
    "Finished in state ",
    "Beginning flow run ",
    "Encountered exception during execution",
    "Worker '",
    "Flow run '",
)
# A build step of Docker's that we added, with a whole JSON document in it.
_OUR_LABEL = re.compile(r"Step \d+/\d+ : LABEL dev\.linkspan\.")
# How flows/coalesce.py says which run does what this one would have done.
_BY_RUN = re.compile(r"^Superseded by run .*\(([0-9a-f-]{36})\)$")


def follow(context: Context, run_id: str) -> Run:
    """Print a run's log until it ends. Raises its `failure` unless it completed.

    A run that was superseded (flows/coalesce.py) is done by another one: then that one is followed.
    """
    last: Run | None = None
    try:
        for item in context.server.follow(run_id):
            if isinstance(item, LogLine):
                if not (said := worth_saying(item.message)):
                    continue
                style = {"ERROR": "red", "CRITICAL": "red", "WARNING": "yellow"}.get(item.level, "dim")
                err().print(f"  {item.at.astimezone():%H:%M:%S} [{style}]{plain(said)}[/]")
            else:
                last = item
                if item.state_name in _ON_THE_WAY:
                    continue
                colour = COLOURS.get(item.state_type, "cyan")
                # What a run failed of is the error that follows.
                told = item.message if item.state_type == "COMPLETED" else ""
                about = f"{item.name}: {told}" if told else item.name
                if item.state_name == "Scheduled":
                    about = "until a worker takes it"  # and names it: Prefect's name says nothing
                err().print(f"[{colour}]{plain(item.state_name)}[/] {plain(about)}")
    except KeyboardInterrupt:
        note(f"No longer watching; the run goes on: {context.server.run_url(run_id)}")
        raise
    assert last is not None  # noqa: S101 follow always ends with the run
    if last.state_name == "Superseded" and (other := _BY_RUN.search(last.message)):
        note("Somebody else asked for the same; watching the run that does it")
        return follow(context, other[1])
    if (error := last.failure) is not None:
        raise error
    return last


def worth_saying(message: str) -> str:
    """A line of a run's log without what only a developer of Linkspan reads: the UI has all of it.

    Tracebacks go, for the error itself is said at the end, and so does Prefect's word on starts and ends.
    """
    if message.startswith(_CHATTER) or _OUR_LABEL.match(message):
        return ""
    return message.partition("Traceback (most recent call last)")[0].rstrip()


def follow_to_live(context: Context, run_id: str, wanted: Callable[[Release], bool]) -> dict[str, object]:
    """Follow a stream, then the release it started, until a wanted release is live.

    Raises a run's failure, what `stopped` says, RunFailed if nothing goes live in LIVE_SECONDS.
    """
    run = follow(context, run_id)
    if run.state_name in {"Waiting", "HeldBack"}:
        raise stopped(run)
    note(f"Waiting for {context.service} to go live")
    begin = heard = time.monotonic()
    seen: set[str] = set()
    while time.monotonic() - begin < LIVE_SECONDS:
        try:
            found = _went_live(context, run, wanted, seen)
            heard = time.monotonic()
        except ServerUnavailable:
            # Whoever waits for minutes does not want to hear of a server that was busy for seconds.
            if time.monotonic() - heard > OUTAGE_SECONDS:
                raise
            found = None
        if found:
            return found
        time.sleep(1)
    raise RunFailed(
        f"{context.service} did not go live in {LIVE_SECONDS:.0f} s", fix=f"See {context.server.ui_url}"
    )


def _went_live(
    context: Context, stream: Run, wanted: Callable[[Release], bool], seen: set[str]
) -> dict[str, object] | None:
    releases = context.server.recent_runs(context.release_deployment, limit=5)
    revision = context.runtime.live(context.service)
    # A rollout that has switched may still have to switch back: wait for its run's end.
    rolling = any(release.state_type in {"PENDING", "RUNNING"} for release in releases)
    if revision and wanted(revision.release) and not rolling:
        url = context.runtime.url(context.service)
        err().print(f"[green]Live[/] {plain(revision.release.title)} at {url}")
        return {"revision": revision.model_dump(mode="json"), "url": url}
    for release in releases:
        superseded = release.state_type == "CANCELLED"
        if not release.final or superseded or release.created < stream.created or release.id in seen:
            continue
        seen.add(release.id)
        if (error := release.failure) is not None:
            raise error
        note(f"{release.name}: {release.state_name} {release.message}")
        if release.state_name in {"Waiting", "Pinned", "HeldBack"}:
            raise stopped(release)
    return None


def stopped(run: Run) -> LinkspanError:
    """The error for a run that completed without a release, though one was waited for."""
    kind = errors.HeldBack if run.state_name in {"Pinned", "HeldBack"} else errors.ReleaseNotFound
    return kind(f"nothing was released: {run.message}", fix="`linkspan status` says what happens next")
