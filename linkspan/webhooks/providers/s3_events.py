"""What Amazon S3 says when an object was written, whichever way it came: SNS, SQS or EventBridge.

Two forms: event notifications (`Records`, which MinIO and Ceph send too) and events of EventBridge. In both
only a new object in the source's bucket and below its prefix counts.
"""

from datetime import datetime
from urllib.parse import unquote_plus

from linkspan.errors import WebhookRefused
from linkspan.webhooks.base import Hint, Reading, WebhookSettings
from linkspan.webhooks.providers.payload import brief, items, mapping, moment, text
from linkspan.webhooks.providers.written import counted, is_below, key_of, outside

_TEST = "s3:TestEvent"
_CREATED = "ObjectCreated:"


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
    found = [told for record in records if (told := _record(record, settings))]
    return counted(found, otherwise="nothing was written, only removed or changed")


def read_event(document: object, settings: WebhookSettings) -> Reading:
    """The hint in an event that S3 sent through EventBridge. Raises WebhookRefused if it is none.

    Source: Amazon S3 user guide, "EventBridge event message structure". Here the key is not URL-encoded.
    """
    source, kind = text(document, "source"), text(document, "detail-type")
    if (source, kind) != ("aws.s3", "Object Created"):
        return Reading(ignored=f"an event {brief(kind, 80)!r} of {brief(source, 80)}, not of a new object")
    detail = mapping(document, "detail")
    object_ = mapping(detail, "object")
    place = text(detail, "bucket", "name"), text(object_, "key")
    news = _news(object_, "version-id", "etag", "sequencer") or (text(document, "id"),)
    return counted([_told(*place, news, moment(document, "time"), settings)])


def _record(record: object, settings: WebhookSettings) -> Hint | str:
    """The hint in a record, or why it does not count; nothing if it is not of something written."""
    if not text(record, "eventSource").endswith(":s3"):
        raise WebhookRefused("a record is not of S3", found=brief(text(record, "eventSource"), 80))
    version = text(record, "eventVersion")
    if version.partition(".")[0] != "2":
        raise WebhookRefused("a record has an unknown form", expected="2.x", found=brief(version, 20))
    # MinIO writes the whole name, s3:ObjectCreated:Put.
    if not text(record, "eventName").removeprefix("s3:").startswith(_CREATED):
        return ""
    object_ = mapping(record, "s3", "object")
    when = text(record, "eventTime", default="")
    place = text(record, "s3", "bucket", "name"), _decoded(text(object_, "key"))
    # The time as well: not everybody sends a sequencer, and the same bytes have the same ETag again.
    news = (*_news(object_, "versionId", "eTag", "sequencer"), when)
    return _told(*place, news, moment(record, "eventTime"), settings)


def _decoded(key: str) -> str:
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise WebhookRefused("a key is not URL-encoded UTF-8", found=brief(key, 80)) from None


def _news(object_: object, *names: str) -> tuple[str, ...]:
    found = tuple(text(object_, name, default="") for name in names)
    return found if any(found) else ()


def _told(
    bucket: str, key: str, news: tuple[str, ...], at: datetime | None, settings: WebhookSettings
) -> Hint | str:
    """The hint of an object, or why it does not count.

    `news` is what is the same whenever S3 tells of this very write.
    """
    if settings.container and bucket != settings.container:
        return f"written in another bucket: {brief(bucket, 100)}"
    if not is_below(key, settings.prefix):
        return outside(key, settings.prefix)
    return Hint(key=key_of("s3", bucket, key, *news), text=brief(f"s3://{bucket}/{key}", 280), at=at)
