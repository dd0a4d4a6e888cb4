"""The JSON that a webhook carries, read so that no document can do more than be refused.

Call it only after the signature was verified. What is taken out of a document goes through the getters: they
raise WebhookRefused for what is missing or of another type, never KeyError or TypeError.
"""

import json
from datetime import UTC, datetime
from typing import Any, TypeVar

from linkspan.errors import WebhookRefused
from linkspan.plain_text import plain_text
from linkspan.webhooks.base import Request

JSON = "application/json"

T = TypeVar("T", str, dict[str, Any], list[Any])


def parse(request: Request, *types: str) -> dict[str, Any]:
    """The JSON object in a request's body. Raises WebhookRefused for anything else.

    `types` are the content types the provider sends, without parameters; application/json if none is named.
    """
    content_type(request, *(types or (JSON,)))
    document = decode(request.body)
    if not isinstance(document, dict):
        raise WebhookRefused("the body is no JSON object", expected="an object", found=_kind(document))
    return document


def content_type(request: Request, *types: str) -> str:
    """The request's content type, in lower case and without parameters, if it is one of `types`.

    Raises WebhookRefused for another one, for none, and for a charset that is not UTF-8.
    """
    found = request.header("content-type")
    name, *parameters = (part.strip().lower() for part in found.split(";"))
    if name not in types:
        raise WebhookRefused(
            "the body is of the wrong type", expected=" or ".join(types), found=brief(found, 80) or "none"
        )
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key == "charset" and value.strip('"') not in {"utf-8", "utf8", "us-ascii"}:
            raise WebhookRefused("the body has a wrong charset", expected="utf-8", found=brief(value, 40))
    return name


def decode(data: bytes) -> Any:
    """Any JSON value, by RFC 8259 and as RFC 7493 narrows it. Raises WebhookRefused.

    UTF-8 only, no NaN, no number that overflows, no name twice in an object, no half of a surrogate pair:
    what two readers may understand differently is refused.
    """
    try:
        document = json.loads(data.decode(), object_pairs_hook=_object)
        # Python reads NaN, 1e999 and lone surrogates; none of them can be written again.
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeError:
        raise WebhookRefused("the body is no UTF-8 text") from None
    except RecursionError:
        raise WebhookRefused("the body has lists or objects in each other, hundreds deep") from None
    except ValueError:  # also a number of thousands of digits; Python's words would quote the body
        raise WebhookRefused("the body is no JSON") from None
    return document


def text(document: object, *path: str, default: str | None = None) -> str:
    """The string at `path`. Without a default, raises WebhookRefused if it is missing or null."""
    return _take(str, document, path, default)


def mapping(document: object, *path: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """The object at `path`, like `text`."""
    return _take(dict, document, path, default)


def items(document: object, *path: str, default: list[Any] | None = None) -> list[Any]:
    """The list at `path`, like `text`. Its items may be anything: hand them to the getters."""
    return _take(list, document, path, default)


def moment(document: object, *path: str) -> datetime | None:
    """The time at `path` (ISO 8601) in UTC; None if there is none that can be read: it is only shown."""
    try:
        found = datetime.fromisoformat(text(document, *path, default=""))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, WebhookRefused):
        return None


def brief(foreign: str, limit: int) -> str:
    """What others wrote as one line of at most `limit` characters that no terminal obeys."""
    # Cut first: a megabyte of escapes is not worth reading to its end.
    line = " ".join(plain_text(foreign[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _take(kind: type[T], document: object, path: tuple[str, ...], default: T | None) -> T:
    found = document
    for depth, name in enumerate(path):
        if not isinstance(found, dict):
            # Nothing to be found below null: missing, as a whole.
            if found is None and default is not None:
                return default
            raise _wrong(path[:depth], "an object", found)
        found = found.get(name)
    if found is None and default is not None:
        return default
    if not isinstance(found, kind):
        raise _wrong(path, _KINDS[kind], found)
    return found


def _wrong(path: tuple[str, ...], expected: str, found: object) -> WebhookRefused:
    return WebhookRefused(f"{_name(path)} is not what it should be", expected=expected, found=_kind(found))


def _name(path: tuple[str, ...]) -> str:
    return ".".join(path) or "the body"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise WebhookRefused("the body says something twice: an object has two members of one name")
    return found


_KINDS: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    dict: "an object",
    list: "a list",
}


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    return _KINDS.get(type(value), "a number")
