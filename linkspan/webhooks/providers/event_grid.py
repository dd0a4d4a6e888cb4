"""Azure Event Grid: a blob was written. Both of its schemas, and the handshake of each.

Event Grid signs nothing. The secret is in the URL (`?code=`), or in a header that the subscription adds
("delivery properties"). Microsoft's other way, a token of Entra ID, needs no secret and is not supported yet.

Replays: a retry of Event Grid tells of the same write and becomes the same hint. Whoever has the secret can
tell of writes that never were; all this starts is a run that finds nothing new.

Sources: Event Grid, "Azure Blob Storage as an Event Grid source", "Endpoint validation", "Message delivery
and retry".
"""

import re

from linkspan.errors import WebhookRefused
from linkspan.webhooks.base import Hint, Reading, Request, WebhookSettings
from linkspan.webhooks.providers import cloud_events
from linkspan.webhooks.providers.cloud_events import Event
from linkspan.webhooks.providers.payload import JSON, brief, content_type, decode, items, moment, text
from linkspan.webhooks.providers.proofs import check_shown
from linkspan.webhooks.providers.written import counted, is_below, key_of, outside, touches

_VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"
# With a hierarchical namespace (Data Lake) a finished folder is often moved to its place.
_MOVED = "Microsoft.Storage.DirectoryRenamed"
_WRITTEN = {"Microsoft.Storage.BlobCreated", "Microsoft.Storage.BlobRenamed", _MOVED}
# They make an empty file; FlushWithClose or SftpCommit follows when its content is there.
_EMPTY = {"CreateFile", "SftpCreate"}
_ACCOUNT = re.compile(r"/providers/microsoft\.storage/storageaccounts/([a-z0-9]+)$", re.IGNORECASE)
_BLOB = re.compile(r"/?blobServices/default/containers/([^/]+)/blobs/(.+)", re.DOTALL)


def verify(request: Request, settings: WebhookSettings) -> None:
    """Raises WebhookRefused unless the request shows the secret.

    Handshakes show it too, else anybody could have events sent to this URL.
    """
    check_shown(request, settings)


def read(request: Request, settings: WebhookSettings) -> Reading:
    """The hints in a delivery, or the answer to a handshake. Raises WebhookRefused."""
    if request.method == "OPTIONS":
        return cloud_events.consent(request)
    if cloud_events.is_cloud_event(request):
        return _reading(cloud_events.events(request), settings)
    content_type(request, JSON)
    found = [_event(each) for each in items(decode(request.body))]
    kinds = {event.type for event in found}
    if request.header("aeg-event-type") == "SubscriptionValidation" or _VALIDATION in kinds:
        return _validation(found)
    return _reading(found, settings)


def _event(document: object) -> Event:
    """An event of the Event Grid schema as a CloudEvent: the same facts under other names."""
    return Event(
        id=text(document, "id"),
        source=text(document, "topic", default=""),
        type=text(document, "eventType"),
        subject=text(document, "subject", default=""),
        time=text(document, "eventTime", default=""),
        data=document.get("data") if isinstance(document, dict) else None,
    )


def _validation(found: list[Event]) -> Reading:
    """The code goes back in the answer. `validationUrl`, the other way, is never called."""
    if len(found) != 1 or found[0].type != _VALIDATION:
        raise WebhookRefused("a handshake must be one event and alone", found=f"{len(found)} events")
    code = text(found[0].data, "validationCode")
    if not code or len(code) > 200:
        raise WebhookRefused("a handshake has no code that can be given back", expected="1 to 200 characters")
    return Reading(ignored="the subscription is validated", reply={"validationResponse": code})


def _reading(found: list[Event], settings: WebhookSettings) -> Reading:
    return counted([_told(event, settings) for event in found], otherwise="an empty delivery")


def _told(event: Event, settings: WebhookSettings) -> Hint | str:
    if event.type not in _WRITTEN:
        return f"an event {brief(event.type, 80)}, not of a new blob"
    if text(event.data, "api") in _EMPTY:
        return "a file was begun; the event of its content follows"
    account, container, path = _place(event)
    wanted_account, _, wanted_container = settings.container.rpartition("/")
    if wanted_account and account != wanted_account.lower():
        return f"written in another storage account: {brief(account, 80) or 'unnamed'}"
    if wanted_container and container != wanted_container:
        return f"written in another container: {brief(container, 80)}"
    if not (touches if event.type == _MOVED else is_below)(path, settings.prefix):
        return outside(path, settings.prefix)
    return _hint(event, f"{account}/{container}/{path}")


def _place(event: Event) -> tuple[str, str, str]:
    blob = _BLOB.fullmatch(event.subject)
    if blob is None:
        raise WebhookRefused("an event names no blob", found=brief(event.subject, 120))
    account = _ACCOUNT.search(event.source)
    return account[1].lower() if account else "", blob[1], blob[2]


def _hint(event: Event, place: str) -> Hint:
    # The ETag and the sequencer name the write, whoever tells of it; without them the event's ID has to do.
    write = tuple(text(event.data, name, default="") for name in ("eTag", "sequencer"))
    news = write if any(write) else (event.id,)
    return Hint(
        key=key_of("blob", event.type, place, *news),
        text=brief(f"azure://{place}", 280),
        at=moment({"time": event.time}, "time"),
    )
