"""Anybody's own messages: JSON, signed by the Standard Webhooks specification 1.0.0.

For a CI job, a training script, another company's platform. The payload says what is new, at the top or in
`data`, as the specification leaves open:

    {"type": "commit", "sha": "…", "repository": "team/app", "branch": "main", "by": "Ada", "message": "…"}
    {"type": "model", "name": "digits", "version": "v13", "container": "…", "path": "…", "by": "Ada"}

Only type, sha and name must be there. What is said is compared with the settings; what is left out is not.
"""

from datetime import datetime
from typing import Any

from linkspan.webhooks.base import Hint, Reading, Request, WebhookSettings
from linkspan.webhooks.providers.payload import brief, mapping, moment, parse, text
from linkspan.webhooks.providers.proofs import STANDARD_HEADERS, check_standard, standard_key
from linkspan.webhooks.providers.push import BRANCHES, Push, hello, reading


def verify(request: Request, settings: WebhookSettings) -> None:
    """webhook-signature, one of them, over webhook-id, webhook-timestamp and the body."""
    check_standard(request, standard_key(settings))


def read(request: Request, settings: WebhookSettings) -> Reading:
    document = parse(request)
    kind = text(document, "type")
    said = mapping(document, "data", default=document)
    at = moment(document, "timestamp")
    # Signed, and the same in every retry.
    key = request.header(STANDARD_HEADERS[0])
    if kind == "commit":
        return _commit(said, settings, key, at)
    if kind == "model":
        return _model(said, settings, key, at)
    if kind in {"ping", "test"}:
        return hello("a sender of signed messages")
    return Reading(ignored=f"type {brief(kind, 60)!r}; only commit and model count")


def _commit(said: dict[str, Any], settings: WebhookSettings, key: str, at: datetime | None) -> Reading:
    push = Push(
        repository=text(said, "repository", default=settings.repository),
        ref=BRANCHES + text(said, "branch", default=settings.branch),
        sha=text(said, "sha"),
        by=text(said, "by", default=""),
        subject=text(said, "message", default=""),
        at=at,
    )
    return reading([push], settings, key, any_case=False)


def _model(said: dict[str, Any], settings: WebhookSettings, key: str, at: datetime | None) -> Reading:
    container = text(said, "container", default=settings.container)
    if settings.container and container != settings.container:
        return Reading(
            ignored=f"container {brief(container, 100)!r}; only {brief(settings.container, 100)!r} counts"
        )
    path, folder = text(said, "path", default=settings.prefix), settings.prefix.rstrip("/")
    if folder and not f"{path}/".startswith(f"{folder}/"):
        return Reading(ignored=f"path {brief(path, 120)!r}; only what is below {brief(folder, 120)!r} counts")
    by = brief(text(said, "by", default=""), 60)
    words = [
        "model",
        brief(text(said, "name"), 80),
        brief(text(said, "version", default=""), 80),
        f"by {by}" if by else "",
    ]
    return Reading(hints=(Hint(key=key, text=" ".join(word for word in words if word), at=at),))
