"""GitLab: `push` of project and group webhooks. Source of the rules: GitLab's documentation of webhooks.

The secret's form decides how a request is verified, never the request: a signing token (`whsec_…`, GitLab 19)
signs by Standard Webhooks; a secret token is sent as it is and proves nothing about the body.
"""

import hashlib

from linkspan.webhooks.base import Reading, Request, WebhookSettings
from linkspan.webhooks.providers.payload import items, parse, text
from linkspan.webhooks.providers.proofs import (
    STANDARD_PREFIX,
    check_standard,
    check_token,
    secret_of,
    standard_key,
)
from linkspan.webhooks.providers.push import commit_of, other_event, pushed, reading


def verify(request: Request, settings: WebhookSettings) -> None:
    """The webhook-signature for a signing token, X-Gitlab-Token for a secret token."""
    if _signs(settings):
        check_standard(request, standard_key(settings))
    else:
        check_token(settings, request.header("x-gitlab-token"), "x-gitlab-token")


def read(request: Request, settings: WebhookSettings) -> Reading:
    document = parse(request)
    kind = text(document, "object_kind")
    if kind != "push":
        return other_event(kind)
    # Of a push of many the newest twenty are there; of a first one to an empty project, none.
    commit = commit_of(items(document, "commits", default=[]), text(document, "after"), "id")
    repository = ("project", "path_with_namespace")
    push = pushed(document, commit, repository, ("user_name",), ("user_username",))
    return reading([push], settings, _key(request, settings))


def _key(request: Request, settings: WebhookSettings) -> str:
    if _signs(settings):
        return request.header("webhook-id")
    # The body has no time in it: without the header, a branch set back and forth would look like a replay.
    # Retries repeat it. It is not signed, but whoever saw one request has the token, and may say anything.
    told = f"{request.digest()} {request.header('idempotency-key')}"
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def _signs(settings: WebhookSettings) -> bool:
    return secret_of(settings).startswith(STANDARD_PREFIX)
