"""Azure Repos: the service hook "Code pushed" (git.push).

Source of the rules: Azure DevOps' "Service hooks events". Service hooks sign nothing: HTTP Basic
authentication shows who sends, so they need HTTPS, and what they say is a hint like any other.
"""

import hashlib
from typing import Any

from linkspan.errors import WebhookRefused
from linkspan.webhooks.base import Reading, Request, WebhookSettings
from linkspan.webhooks.providers.payload import items, moment, parse, text
from linkspan.webhooks.providers.proofs import check_basic
from linkspan.webhooks.providers.push import Push, commit_of, other_event, person, reading


def verify(request: Request, settings: WebhookSettings) -> None:
    """Authorization: Basic, with the settings' username and secret."""
    check_basic(request, settings)


def read(request: Request, settings: WebhookSettings) -> Reading:
    document = parse(request)
    event = text(document, "eventType")
    if event != "git.push":
        return other_event(event)
    updates = items(document, "resource", "refUpdates", default=[])
    if not updates:
        raise WebhookRefused(
            "the event does not say which branch was pushed",
            fix='In the service hook, choose "All" for "Resource details to send"',
        )
    # The event's ID: a retry of the same event may have another notificationId.
    key = hashlib.sha256(text(document, "id").encode()).hexdigest()
    return reading([_push(document, update) for update in updates], settings, key)


def _push(document: dict[str, Any], update: object) -> Push:
    sha = text(update, "newObjectId")
    commit = commit_of(items(document, "resource", "commits", default=[]), sha, "commitId")
    project = text(document, "resource", "repository", "project", "name")
    return Push(
        # Names are unique in a project only.
        repository=f"{project}/{text(document, 'resource', 'repository', 'name')}",
        ref=text(update, "name"),
        sha=sha,
        by=person(document, ("resource", "pushedBy", "displayName"), ("resource", "pushedBy", "uniqueName")),
        subject=text(commit, "comment", default=""),
        at=moment(document, "resource", "date"),
    )
