"""A push as every git server tells it, and whether it counts: the same question whoever asks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from linkspan.errors import WebhookRefused
from linkspan.nouns import short
from linkspan.webhooks.base import Hint, Reading, Request, WebhookSettings
from linkspan.webhooks.providers.payload import brief, moment, text

BRANCHES = "refs/heads/"


@dataclass(frozen=True)
class Push:
    """That a ref of a repository is now at `sha`; empty, or all zeros, when it was deleted.

    `by`, `subject` and `at` are for people. All of it comes from strangers.
    """

    repository: str
    ref: str
    sha: str
    by: str = ""
    subject: str = ""
    at: datetime | None = None


def pushed(document: object, commit: object, repository: tuple[str, ...], *by: tuple[str, ...]) -> Push:
    """The push in a body of GitHub's form, which others took over: their names are at other paths.

    `commit` is the newest one, `by` are the places of the name of who pushed. Raises WebhookRefused.
    """
    return Push(
        repository=text(document, *repository),
        ref=text(document, "ref"),
        sha=text(document, "after"),
        by=person(document, *by),
        subject=text(commit, "message", default=""),
        at=moment(commit, "timestamp"),
    )


def reading(pushes: Sequence[Push], settings: WebhookSettings, key: str, *, any_case: bool = True) -> Reading:
    """A hint if one of these pushes is to the settings' repository and branch, else why there is none.

    `any_case`: the server takes owner/name and Owner/Name for the same repository.
    Raises WebhookRefused if one that counts names no commit.
    """
    reasons = [(push, _why_not(push, settings, any_case)) for push in pushes]
    counted = [push for push, reason in reasons if not reason]
    if not counted:
        return Reading(ignored=reasons[0][1] if reasons else "nothing was pushed")
    return Reading(hints=(Hint(key=key, text=told(counted[-1]), at=counted[-1].at),))


def told(push: Push) -> str:
    """The push in one line, such as `push by Ada to main: 3fa9c1d Say hello`."""
    if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", push.sha):
        raise WebhookRefused(
            "the push names no commit", expected="40 or 64 hex digits", found=brief(push.sha, 70)
        )
    name = brief(push.by, 60)
    by = f" by {name}" if name else ""
    to = brief(push.ref.removeprefix(BRANCHES), 80)
    subject = brief(push.subject.strip().split("\n", 1)[0], 120)
    return f"push{by} to {to}: {short(push.sha)} {subject}".rstrip()


def hello(sender: str) -> Reading:
    """The answer to a ping."""
    return Reading(ignored=f"a ping from {sender}: the webhook works")


def other_event(name: str) -> Reading:
    """The answer to an event that is no push."""
    return Reading(ignored=f"event {brief(name, 60)!r}; only pushes count")


def event_of(request: Request, *headers: str) -> str:
    """The event, from the first of these headers that is there. Raises WebhookRefused if there is none."""
    for header in headers:
        if name := request.header(header):
            return name
    raise WebhookRefused(f"the header {' or '.join(headers)} is missing", expected="the name of an event")


def commit_of(commits: list[Any], sha: str, name: str) -> dict[str, Any]:
    """The commit among `commits` whose field `name` is `sha`; empty if it is not there, as it need not be."""
    return next((each for each in commits if isinstance(each, dict) and each.get(name) == sha), {})


def person(document: object, *paths: tuple[str, ...]) -> str:
    """The first name that is there and not empty."""
    return next((name for path in paths if (name := text(document, *path, default=""))), "")


def _why_not(push: Push, settings: WebhookSettings, any_case: bool) -> str:
    wanted, found = settings.repository, push.repository
    same = wanted.casefold() == found.casefold() if any_case else wanted == found
    if wanted and not same:
        return f"repository {brief(found, 120)!r}; only {brief(wanted, 120)!r} counts"
    if push.ref != BRANCHES + settings.branch:
        return f"a push to {brief(push.ref, 120)!r}; only the branch {brief(settings.branch, 100)!r} counts"
    if not push.sha.strip("0"):
        return f"the branch {brief(settings.branch, 100)!r} was deleted"
    return ""
