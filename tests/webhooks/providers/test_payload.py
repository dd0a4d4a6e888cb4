"""JSON of strangers: what is read, what is refused, and that nothing else is ever raised."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from linkspan.errors import WebhookRefused
from linkspan.webhooks.providers import payload
from linkspan.webhooks.providers.payload import (
    brief,
    content_type,
    decode,
    items,
    mapping,
    moment,
    parse,
    text,
)
from tests.webhooks.samples import post, with_header

DOCUMENT = {
    "a": {"b": "x", "n": 7, "t": True, "none": None, "list": [1, {"c": "y"}]},
    "at": "2026-11-22T21:20:01+01:00",
}


def test_a_document_is_read() -> None:
    body = json.dumps(DOCUMENT).encode()
    assert parse(post(body, {"content-type": "application/json"})) == DOCUMENT
    assert parse(post(body, {"content-type": 'Application/JSON; charset="UTF-8"'})) == DOCUMENT
    assert parse(post(body, {"content-type": "text/plain"}), "text/plain", "x/y") == DOCUMENT


@pytest.mark.parametrize(
    ("body", "why"),
    {
        b"[" * 100_000: "hundreds deep",
        b'{"a":' * 100_000: "hundreds deep",
        b"7" * 5000: "no JSON",
        b'{"a":1,"a":2}': "twice",
        b'{"a":{"b":1,"b":1}}': "twice",
        b"\xff\xfe": "no UTF-8",
        '{"a":1}'.encode("utf-16"): "no UTF-8",
        b'\xef\xbb\xbf{"a":1}': "no JSON",
        b'{"a":"\\ud800"}': "no UTF-8",
        b'{"\\udfff":1}': "no UTF-8",
        b'{"a":NaN}': "no JSON",
        b'{"a":-Infinity}': "no JSON",
        b'{"a":1e999}': "no JSON",
        b'{"a":1}x': "no JSON",
        b"{'a':1}": "no JSON",
        b"": "no JSON",
    }.items(),
)
def test_what_two_readers_may_understand_differently_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(WebhookRefused, match=why):
        decode(body)


@pytest.mark.parametrize("body", [b"[]", b"7", b"null", b'"x"', b"true"])
def test_only_an_object_is_a_document(body: bytes) -> None:
    with pytest.raises(WebhookRefused, match="no JSON object"):
        parse(post(body, {"content-type": "application/json"}))


@pytest.mark.parametrize(
    "found",
    [
        "",
        "text/plain",
        "application/json, text/plain",
        "application/jsonp",
        "json",
        "application/json; charset=utf-16",
    ],
)
def test_another_content_type_is_refused(found: str) -> None:
    with pytest.raises(WebhookRefused):
        content_type(post(b"{}", {"content-type": found}), "application/json")


def test_a_content_type_that_is_there_twice_is_refused() -> None:
    request = with_header(post(b"{}", {}), "content-type", "application/json", "application/json")
    with pytest.raises(WebhookRefused, match="2 times"):
        parse(request)


def test_getters() -> None:
    assert text(DOCUMENT, "a", "b") == "x"
    assert mapping(DOCUMENT, "a") is DOCUMENT["a"]
    assert text(items(DOCUMENT, "a", "list")[1], "c") == "y"
    assert moment(DOCUMENT, "at") == datetime(2026, 11, 22, 20, 20, 1, tzinfo=UTC)


def test_defaults_are_for_what_is_missing_or_null_only() -> None:
    assert text(DOCUMENT, "a", "none", default="d") == "d"
    assert text(DOCUMENT, "x", "y", "z", default="d") == "d"
    assert text(DOCUMENT, "a", "none", "deeper", default="d") == "d"
    with pytest.raises(WebhookRefused):
        text(DOCUMENT, "a", "n", default="d")
    with pytest.raises(WebhookRefused):
        text(DOCUMENT, "a", "b", "deeper", default="d")


@pytest.mark.parametrize(
    ("get", "path", "said"),
    [
        (text, ("a", "n"), "a.n is not what it should be (expected a string, found a whole number)"),
        (text, ("a",), "a is not what it should be (expected a string, found an object)"),
        (text, ("a", "none"), "a.none is not what it should be (expected a string, found nothing)"),
        (text, (), "the body is not what it should be (expected a string, found an object)"),
        (text, ("at", "x"), "at is not what it should be (expected an object, found a string)"),
        (text, ("a", "t"), "a.t is not what it should be (expected a string, found true or false)"),
        (mapping, ("a", "list"), "a.list is not what it should be (expected an object, found a list)"),
        (items, ("a", "x"), "a.x is not what it should be (expected a list, found nothing)"),
    ],
)
def test_what_is_of_another_type_is_named(
    get: Callable[..., object], path: tuple[str, ...], said: str
) -> None:
    with pytest.raises(WebhookRefused) as refused:
        get(DOCUMENT, *path)
    assert str(refused.value) == said


@pytest.mark.parametrize(
    "said", ["", "yesterday", 7, None, "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-13-01"]
)
def test_a_time_that_cannot_be_read_is_no_time(said: object) -> None:
    assert moment({"at": said}, "at") is None


@pytest.mark.parametrize(
    ("said", "year"),
    [("2026-11-22T20:20:09.0670416Z", 2026), ("2026-11-22T21:20:03+0100", 2026), ("2026-11-22", 2026)],
)
def test_times_of_every_provider(said: str, year: int) -> None:
    found = moment({"at": said}, "at")
    assert found is not None
    assert found.year == year
    assert found.tzinfo is UTC


def test_foreign_words_are_one_short_line() -> None:
    assert brief(" a\x1b[31mb\u202e \r\n\tc\0 ", 20) == "ab c"
    assert brief("x" * 21, 20) == "x" * 19 + "…"
    assert brief("x" * 20, 20) == "x" * 20
    assert brief("\ud800é", 20) == "é"
    assert len(brief("\x1b[31m" * 1_000_000 + "end", 20)) <= 20


def test_what_is_refused_is_not_quoted() -> None:
    """The body of a request may hold what nobody wants in a log."""
    for body in (b'{"a": "hunter2" x', b'{"hunter2": 1, "hunter2": 2}', b'"hunter2'):
        with pytest.raises(WebhookRefused) as refused:
            payload.decode(body)
        assert "hunter2" not in str(refused.value)
