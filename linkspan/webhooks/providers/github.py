"""GitHub: event `push`.

Source of the rules: GitHub's "Validating webhook deliveries" and "Webhook events and payloads".
The delivery's ID (X-GitHub-Delivery) is not signed, so it says nothing about a replay; the body is, and it
holds the time of the push. A redelivery has the same body.
"""

from typing import Any
from urllib.parse import parse_qsl

from linkspan.errors import WebhookRefused
from linkspan.webhooks.base import Reading, Request, WebhookSettings
from linkspan.webhooks.providers.payload import JSON, content_type, decode, mapping
from linkspan.webhooks.providers.proofs import check_hmac
from linkspan.webhooks.providers.push import event_of, hello, other_event, pushed, reading

# What GitHub's form for a new webhook offers first: JSON in a field named payload.
_FORM = "application/x-www-form-urlencoded"


def verify(request: Request, settings: WebhookSettings) -> None:
    """X-Hub-Signature-256. X-Hub-Signature beside it is SHA-1, and never looked at."""
    check_hmac(request, settings, "x-hub-signature-256", "sha256=")


def read(request: Request, settings: WebhookSettings) -> Reading:
    event = event_of(request, "x-github-event")
    document = _document(request)
    if event == "ping":
        return hello("GitHub")
    if event != "push":
        return other_event(event)
    commit = mapping(document, "head_commit", default={})
    push = pushed(document, commit, ("repository", "full_name"), ("pusher", "name"), ("sender", "login"))
    return reading([push], settings, request.digest())


def _document(request: Request) -> dict[str, Any]:
    data = request.body
    if content_type(request, JSON, _FORM) == _FORM:
        try:
            fields = parse_qsl(data.decode("ascii"), strict_parsing=True, max_num_fields=4, errors="strict")
        except ValueError:  # UnicodeDecodeError is one
            fields = []
        if [name for name, _ in fields] != ["payload"]:
            raise WebhookRefused(
                "the form is not GitHub's", expected="one field named payload", fix=f"Or choose {JSON} there"
            )
        data = fields[0][1].encode()
    document = decode(data)
    if not isinstance(document, dict):
        raise WebhookRefused("the body is no JSON object")
    return document
