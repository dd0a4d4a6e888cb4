"""Bitbucket: `repo:push` of Bitbucket Cloud and `repo:refs_changed` of Data Center.

Source of the rules: Atlassian's "Event payloads" and "Manage webhooks". Both sign alike. A retry has the same
body. Cloud's body holds no time of the push: a branch that is set back and forth between the same two commits
looks like a replay, and waits for the next poll.
"""

from collections.abc import Iterator
from typing import Any

from linkspan.webhooks.base import Reading, Request, WebhookSettings
from linkspan.webhooks.providers.payload import items, mapping, moment, parse, text
from linkspan.webhooks.providers.proofs import check_hmac
from linkspan.webhooks.providers.push import BRANCHES, Push, event_of, hello, other_event, person, reading


def verify(request: Request, settings: WebhookSettings) -> None:
    """X-Hub-Signature, which is SHA-256 here, unlike GitHub's header of that name."""
    check_hmac(request, settings, "x-hub-signature", "sha256=")


def read(request: Request, settings: WebhookSettings) -> Reading:
    event = event_of(request, "x-event-key")
    document = parse(request)
    if event == "diagnostics:ping":
        return hello("Bitbucket")
    if event == "repo:push":
        return reading(list(_cloud(document)), settings, request.digest())
    if event == "repo:refs_changed":
        return reading(list(_data_center(document)), settings, request.digest())
    return other_event(event)


def _cloud(document: dict[str, Any]) -> Iterator[Push]:
    repository = text(document, "repository", "full_name")
    by = person(document, ("actor", "display_name"), ("actor", "nickname"))
    for change in items(document, "push", "changes"):
        # `new` is null when a branch or a tag was deleted.
        new = mapping(change, "new", default={})
        ref = new or mapping(change, "old")
        space = BRANCHES if text(ref, "type") == "branch" else "refs/tags/"
        yield Push(
            repository=repository,
            ref=space + text(ref, "name"),
            sha=text(new, "target", "hash") if new else "",
            by=by,
            subject=text(new, "target", "message", default=""),
            at=moment(new, "target", "date"),
        )


def _data_center(document: dict[str, Any]) -> Iterator[Push]:
    project = text(document, "repository", "project", "key")
    repository = f"{project}/{text(document, 'repository', 'slug')}"
    for change in items(document, "changes"):
        yield Push(
            repository=repository,
            ref=text(change, "ref", "id"),
            sha=text(change, "toHash"),
            by=person(document, ("actor", "displayName"), ("actor", "name")),
            subject=text(document, "toCommit", "message", default=""),
            at=moment(document, "date"),
        )
