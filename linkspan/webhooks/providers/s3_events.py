"""What Amazon S3 says when an object was written, whichever way it came: SNS, SQS or EventBridge.

Two forms: event notifications (`Records`, which MinIO and Ceph send too) and events of EventBridge. In both
only a new object in the source's bucket and below its prefix counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote_plus

from linkspan.errors import WebhookRefused
from linkspan.webhooks.base import Hint, Reading, WebhookSettings
from linkspan.webhooks.providers.payload import brief, items, mapping, moment, text
from linkspan.webhooks.providers.written import is_below, key_of

_TEST = "s3:TestEvent"
_CREATED = "ObjectCreated:"


@dataclass(frozen=True)
class Written:
    """That an object was written. `news` is what is the same whenever S3 tells of this very write."""

    bucket: str
    key: str
    news: tuple[str, ...]
    at: datetime | None


def read_any(document: object, settings: WebhookSettings) -> Reading:
    """The hints in either form. Raises WebhookRefused for anything else."""
    fields = mapping(document)
    return read_event(fields, settings) if "detail-type" in fields else read_records(fields, settings)


def read_records(document: object, settings: WebhookSettings) -> Reading:
    """The hints in an S3 event notification (version 2). Raises WebhookRefused if it is none.

    Source: Amazon S3 user guide, "Event message structure".
    """
    fields = mapping(document)
    if "Records" not in fields and fields.get("Event") == _TEST:
        return Reading(ignored="S3 tested whether its notifications arrive, and they do")
    records = items(document, "Records")
    written = [found for record in records if (found := _record(record)) is not None]
    return _reading(written, settings, otherwise="nothing was written, only removed or changed")


def read_event(document: object, settings: WebhookSettings) -> Reading:
    """The hint in an event that S3 sent through EventBridge. Raises WebhookRefused if it is none.

    Source: Amazon S3 user guide, "EventBridge event message structure". Here the key is not URL-encoded.
    """
    source, kind = text(document, "source"), text(document, "detail-type")
    if (source, kind) != ("aws.s3", "Object Created"):
        return Reading(ignored=f"an event {brief(kind, 80)!r} of {brief(source, 80)}, not of a new object")
    detail = mapping(document, "detail")
    object_ = mapping(detail, "object")
    written = Written(
        bucket=text(detail, "bucket", "name"),
        key=text(object_, "key"),
        news=_news(object_, "version-id", "etag", "sequencer") or (text(document, "id"),),
        at=moment(document, "time"),
    )
    return _reading([written], settings)


def _record(record: object) -> Written | None:
    if not text(record, "eventSource").endswith(":s3"):
        raise WebhookRefused("a record is not of S3", found=brief(text(record, "eventSource"), 80))
    version = text(record, "eventVersion")
    if version.partition(".")[0] != "2":
        raise WebhookRefused("a record has an unknown form", expected="2.x", found=brief(version, 20))
    # MinIO writes the whole name, s3:ObjectCreated:Put.
    if not text(record, "eventName").removeprefix("s3:").startswith(_CREATED):
        return None
    object_ = mapping(record, "s3", "object")
    when = text(record, "eventTime", default="")
    return Written(
        bucket=text(record, "s3", "bucket", "name"),
        key=_decoded(text(object_, "key")),
        # The time as well: not everybody sends a sequencer, and the same bytes have the same ETag again.
        news=(*_news(object_, "versionId", "eTag", "sequencer"), when),
        at=moment(record, "eventTime"),
    )


def _decoded(key: str) -> str:
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise WebhookRefused("a key is not URL-encoded UTF-8", found=brief(key, 80)) from None


def _news(object_: object, *names: str) -> tuple[str, ...]:
    found = tuple(text(object_, name, default="") for name in names)
    return found if any(found) else ()


def _reading(written: Iterable[Written], settings: WebhookSettings, otherwise: str = "") -> Reading:
    hints, ignored = [], otherwise
    for each in written:
        if settings.container and each.bucket != settings.container:
            ignored = f"written in another bucket: {brief(each.bucket, 100)}"
        elif not is_below(each.key, settings.prefix):
            ignored = f"written outside of {settings.prefix}: {brief(each.key, 150)}"
        else:
            place = brief(f"s3://{each.bucket}/{each.key}", 280)
            hints.append(Hint(key=key_of("s3", each.bucket, each.key, *each.news), text=place, at=each.at))
    return Reading(hints=tuple(hints)) if hints else Reading(ignored=ignored)
