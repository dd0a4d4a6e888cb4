"""Gitea and Forgejo: event `push`. Source of the rules: Gitea's documentation of webhooks.

Both also send GitHub's headers; which rules apply is in the URL that was called, never in a header. The body
holds the repository's time of change, so that no two pushes look the same, and a redelivery does.
"""

from linkspan.webhooks.base import Reading, Request, WebhookSettings
from linkspan.webhooks.providers.payload import mapping, parse
from linkspan.webhooks.providers.proofs import check_hmac
from linkspan.webhooks.providers.push import event_of, other_event, pushed, reading


def verify(request: Request, settings: WebhookSettings) -> None:
    """X-Gitea-Signature, or X-Forgejo-Signature where only that is there: bare hex."""
    forgejo = request.header("x-forgejo-signature") and not request.header("x-gitea-signature")
    check_hmac(request, settings, "x-forgejo-signature" if forgejo else "x-gitea-signature")


def read(request: Request, settings: WebhookSettings) -> Reading:
    event = event_of(request, "x-gitea-event", "x-forgejo-event")
    document = parse(request)
    if event != "push":
        return other_event(event)
    commit = mapping(document, "head_commit", default={})
    by = ("pusher", "full_name"), ("pusher", "login"), ("pusher", "username")
    push = pushed(document, commit, ("repository", "full_name"), *by)
    return reading([push], settings, request.digest())
