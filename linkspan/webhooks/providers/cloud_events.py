"""CloudEvents 1.0 over HTTP: the three ways an event may be in a request, and the consent that it asks for.

Sources: CloudEvents specification 1.0.2, HTTP protocol binding and JSON format; "HTTP 1.1 Web Hooks for Event
Delivery", section 4 (abuse protection).
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from linkspan.errors import WebhookRefused
from linkspan.webhooks.base import Reading, Request
from linkspan.webhooks.providers.payload import JSON, brief, content_type, decode, items, text

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
# A DNS name. It goes back in a header of the answer, so nothing else may pass.
_ORIGIN = re.compile(r"[A-Za-z0-9.-]{1,253}")
_RATE = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Event:
    """What an event says of itself, and its data, which may be any JSON. `time` is as it was sent."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    data: object


def consent(request: Request) -> Reading:
    """The leave that OPTIONS asks for: the sender that is named may send, as often as it asked.

    Raises WebhookRefused if none is named.
    The address in WebHook-Request-Callback is never called: the answer is given here, or not at all.
    """
    origin = request.header("webhook-request-origin")
    if not _ORIGIN.fullmatch(origin):
        raise WebhookRefused(
            "who asks for leave to send is no DNS name",
            expected="WebHook-Request-Origin",
            found=brief(origin, 80),
        )
    rate = request.header("webhook-request-rate")
    return Reading(
        ignored=f"{origin} asked for leave to send events, and has it",
        reply={},
        reply_headers={
            "WebHook-Allowed-Origin": origin,
            "WebHook-Allowed-Rate": rate if _RATE.fullmatch(rate) else "*",
            "Allow": "POST, OPTIONS",
        },
    )


def is_cloud_event(request: Request) -> bool:
    """Whether the request says that it carries CloudEvents, in whichever way."""
    kind = request.header("content-type").partition(";")[0].strip().lower()
    return kind in {STRUCTURED, BATCH} or bool(request.header("ce-specversion"))


def events(request: Request) -> list[Event]:
    """The events of a request: structured, batched or binary. Raises WebhookRefused."""
    if request.header("ce-specversion"):
        content_type(request, JSON)
        return [_binary(request)]
    document = decode(request.body)
    if content_type(request, STRUCTURED, BATCH) == BATCH:
        return [_structured(each) for each in items(document)]
    return [_structured(document)]


def _structured(document: object) -> Event:
    _check(text(document, "specversion"))
    return Event(
        id=text(document, "id"),
        source=text(document, "source"),
        type=text(document, "type"),
        subject=text(document, "subject", default=""),
        time=text(document, "time", default=""),
        data=document.get("data") if isinstance(document, dict) else None,
    )


def _binary(request: Request) -> Event:
    # HTTP protocol binding, 3.1.3.2: values of headers are percent-encoded.
    _check(request.header("ce-specversion"))
    return Event(
        id=_attribute(request, "id"),
        source=_attribute(request, "source"),
        type=_attribute(request, "type"),
        subject=unquote(request.header("ce-subject")),
        time=request.header("ce-time"),
        data=decode(request.body),
    )


def _attribute(request: Request, name: str) -> str:
    found = request.header(f"ce-{name}")
    if not found:
        raise WebhookRefused(f"the event has no {name}", expected=f"a header ce-{name}")
    return unquote(found)


def _check(version: str) -> None:
    if version != "1.0":
        raise WebhookRefused("an unknown version of CloudEvents", expected="1.0", found=brief(version, 20))
