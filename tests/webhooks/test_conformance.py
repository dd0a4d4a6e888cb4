"""What holds for every provider: a valid request is a hint, and nothing that is spoilt starts anything.

Refused or ignored starts nothing, and neither does a hint whose key is known: the inbox drops it.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from linkspan.errors import WebhookRefused
from linkspan.plain_text import plain_text
from linkspan.webhooks.base import Reading, Request
from tests.webhooks import providers
from tests.webhooks.samples import (
    OTHER_SECRET,
    OTHER_WHSEC,
    Sample,
    proof_of,
    with_header,
    with_proof,
    with_secret,
)

STORES = "tests.webhooks.store_providers"
SAMPLES: list[Sample] = [*providers.SAMPLES, *(import_module(STORES).SAMPLES if find_spec(STORES) else ())]

every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
Keys = Sequence[str]


def told(sample: Sample, request: Request) -> Reading | None:
    """What the provider makes of it; None if it is refused. Any other error is the test's."""
    refused = ""
    try:
        sample.provider.verify(request, sample.settings)
        reading = sample.provider.read(request, sample.settings)
    except WebhookRefused as error:
        refused = str(error)
    if refused:
        assert refused == plain_text(refused), "the log would obey a stranger"
        return None
    assert reading.hints or reading.ignored or reading.reply is not None, "it must say why nothing starts"
    assert reading.ignored == plain_text(reading.ignored)
    for hint in reading.hints:
        assert hint.text == plain_text(hint.text).strip() != ""
    return reading


def keys(sample: Sample, request: Request) -> Keys | None:
    reading = told(sample, request)
    return None if reading is None else tuple(hint.key for hint in reading.hints)


def flipped(sample: Sample) -> Iterator[Request]:
    body = sample.valid.body
    for position in range(0, len(body), max(1, len(body) // 97)):
        for bit in (0, 5):
            changed = bytearray(body)
            changed[position] ^= 1 << bit
            yield replace(sample.valid, body=bytes(changed))


def other_secret(sample: Sample) -> Iterator[Request]:
    for secret in (OTHER_SECRET, OTHER_WHSEC):
        yield sample.make(sample.body, with_secret(sample.settings, secret))


def missing(sample: Sample) -> Iterator[Request]:
    yield with_proof(sample.valid, sample.proof)


def empty(sample: Sample) -> Iterator[Request]:
    for value in ("", " ", "\0", "None", "null", "undefined"):
        yield with_proof(sample.valid, sample.proof, value)


def other_algorithm(sample: Sample) -> Iterator[Request]:
    for value in sample.other_proofs(sample.valid.body):
        yield with_proof(sample.valid, sample.proof, value)


def truncated(sample: Sample) -> Iterator[Request]:
    body = sample.valid.body
    for length in (len(body) - 2, len(body) // 2, 1, 0):
        yield replace(sample.valid, body=body[:length])


def oversized(sample: Sample) -> Iterator[Request]:
    yield replace(sample.valid, body=sample.valid.body + b" " * (1 << 22) + b"x")
    yield sample.make(b"[" * (1 << 20), sample.settings)
    yield sample.make(b'{"a":' * (1 << 18), sample.settings)


def duplicated(sample: Sample) -> Iterator[Request]:
    proof = proof_of(sample.valid, sample.proof)
    for values in ([proof, proof], [proof, "x"], ["x", proof], [proof, ""], ["", proof]):
        yield with_proof(sample.valid, sample.proof, *values)


def serialised_again(sample: Sample) -> Iterator[Request]:
    for again in written_again(sample.body):
        assert again != sample.body
        yield replace(sample.valid, body=sample.make(again, sample.settings).body)


def written_again(body: bytes) -> list[bytes]:
    try:
        document = json.loads(body)
    except ValueError:
        return [body + b"\n", body.replace(b"\n", b"\r\n")]
    written = [json.dumps(document), json.dumps(document, sort_keys=True), json.dumps(document, indent=1)]
    return [text.encode() for text in written]


SPOILERS: dict[str, Callable[[Sample], Iterator[Request]]] = {
    "other secret": other_secret,
    "missing proof": missing,
    "empty proof": empty,
    "other algorithm": other_algorithm,
    "oversized": oversized,
    "duplicated proof": duplicated,
}
# Only a proof that covers the body can tell.
BODY_SPOILERS: dict[str, Callable[[Sample], Iterator[Request]]] = {
    "flipped bit": flipped,
    "truncated": truncated,
    "serialised again": serialised_again,
}

SAYS_NOTHING = [
    *(b"", b"null", b"[]", b'"x"', b"7", b"{}", b"[{}]", b'{"data":{}}', b"{}{}", b"\xff", b"\xef\xbb\xbf{}"),
    *(b"[" * 100_000, b'{"a":' * 100_000, b"7" * 5000, b'{"a":1,"a":2}'),
    *(b'"\\ud800"', b"NaN", b"1e999", b"-Infinity"),
]
HOSTILE: list[Any] = [
    *(None, True, 0, -1, 1.5, 2**64, "9" * 70, [], {}, [[]], {"": ""}, [None], "DEEP", "HUGE", "NAN"),
    *("", " ", "x", "a" * 5000, "é" * 300, "refs/heads/", "0" * 40),
    *("\ud800", "\x1b]0;x\x07", "\u202e", "\0", "\r\nX: y"),
]


@every_sample
def test_what_is_valid_is_a_hint(sample: Sample) -> None:
    reading = told(sample, sample.valid)
    assert reading is not None
    assert reading.hints
    assert not reading.ignored


@every_sample
@pytest.mark.parametrize("spoiler", SPOILERS)
def test_a_request_without_proof_is_refused(sample: Sample, spoiler: str) -> None:
    if spoiler in sample.spoiled:
        assert keys(sample, sample.spoiled[spoiler]) is None
        return
    for request in SPOILERS[spoiler](sample):
        assert keys(sample, request) is None, request


@every_sample
@pytest.mark.parametrize("spoiler", BODY_SPOILERS)
def test_a_body_that_was_changed_starts_nothing(sample: Sample, spoiler: str) -> None:
    known = keys(sample, sample.valid)
    for request in BODY_SPOILERS[spoiler](sample):
        found = keys(sample, request)
        if sample.signs and sample.proof:
            assert found is None, request.body
        elif sample.signs:
            # The proof is in the body, and covers what it means, not how it is written.
            assert found in {None, (), known}, request.body
        elif spoiler == "truncated":
            assert found is None, request.body


@every_sample
def test_what_was_told_before_has_the_same_key(sample: Sample) -> None:
    known = keys(sample, sample.valid)
    assert known
    assert keys(sample, sample.valid) == known
    for name, request in sample.retold.items():
        assert keys(sample, request) == known, name
    for header in sample.unsigned_headers:
        for values in (["0b5c1c1e-another"], []):
            replayed = with_header(sample.valid, header, *values)
            assert keys(sample, replayed) == known, header


@every_sample
def test_other_news_has_another_key(sample: Sample) -> None:
    known = keys(sample, sample.valid)
    for name, request in sample.news.items():
        found = keys(sample, request)
        assert found, name
        assert found != known, name


@every_sample
def test_what_is_about_something_else_is_ignored(sample: Sample) -> None:
    assert sample.elsewhere
    for name, body in sample.elsewhere.items():
        assert body != sample.body, name
        assert keys(sample, sample.make(body, sample.settings)) == (), name


@every_sample
def test_a_wrong_content_type_starts_nothing(sample: Sample) -> None:
    right = sample.valid.header("content-type")
    wrong = [
        "",
        "application/xml",
        "text/html",
        "text/plain" if not right.startswith("text/plain") else "application/json",
        "application/x-www-form-urlencoded" if "form" not in right else "application/json",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
        right.partition(";")[0] + "; charset=utf-16",
        right.partition(";")[0] + "; charset=utf-7",
    ]
    for kind in wrong:
        if kind not in sample.other_types:
            assert not keys(sample, with_header(sample.valid, "content-type", kind)), kind
    assert not keys(sample, with_header(sample.valid, "content-type")), "none"
    assert not keys(sample, with_header(sample.valid, "content-type", right, right)), "twice"


@every_sample
def test_a_secret_of_another_script_is_compared_not_stumbled_over(sample: Sample) -> None:
    if not sample.proof:
        pytest.skip("the proof is in the body")
    for value in ("ключ", "\xff\xfe", "\ud800", "sha256=é", "🔑" * 300):
        assert keys(sample, with_proof(sample.valid, sample.proof, value)) is None


@every_sample
def test_thousands_of_mutations_raise_nothing_else(sample: Sample) -> None:
    """Bytes, headers and proofs at random, as they come and signed anew."""
    random_ = random.Random(f"{sample.name} 1")
    known = keys(sample, sample.valid)
    for turn in range(1500):
        request = mutated(sample.valid, random_)
        found = keys(sample, request)
        # A changed event header may still be a hint; a changed body may not.
        if sample.signs and sample.proof and request.body != sample.valid.body:
            assert found is None, turn
        elif sample.signs and found:
            assert found == known, turn
        keys(sample, sample.make(mangled(sample.body, random_), sample.settings))


@every_sample
def test_json_of_any_shape_raises_nothing_else(sample: Sample) -> None:
    """The right secret, and a value of the wrong type, or a hostile one, anywhere in the document."""
    try:
        document = json.loads(sample.body)
    except ValueError:
        pytest.skip("no JSON")
    random_ = random.Random(f"{sample.name} 2")
    places = list(paths(document))
    for _ in range(1500):
        body = hostile(document, random_.choice(places), random_)
        told(sample, sample.make(body, sample.settings))


@every_sample
@pytest.mark.parametrize("body", SAYS_NOTHING, ids=lambda body: body[:9].decode("latin-1"))
def test_a_signed_body_that_says_nothing_starts_nothing(sample: Sample, body: bytes) -> None:
    assert not keys(sample, sample.make(body, sample.settings))


def mutated(request: Request, random_: random.Random) -> Request:
    """The request with one to three things changed."""
    for _ in range(random_.randint(1, 3)):
        if random_.random() < 0.5:
            request = replace(request, body=mangled(request.body, random_))
            continue
        headers = list(request.headers)
        at = random_.randrange(len(headers))
        name, value = headers[at]
        mangled_value = mangled(value.encode(errors="replace"), random_).decode("latin-1")
        headers[at : at + 1] = random_.choice(
            [[], [(name, value), (name, value)], [(name, mangled_value)], [(name, "")], [(name, value * 50)]]
        )
        request = replace(request, headers=tuple(headers) or request.headers)
    return request


def mangled(data: bytes, random_: random.Random) -> bytes:
    """The bytes with one change: a flip, a cut, something put in, doubled or swapped."""
    at = random_.randrange(len(data) + 1)
    to = min(len(data), at + random_.choice([1, 2, 7, 60]))
    put = random_.choice(
        [b"\0", b"\xff", b'"', b"\\u", b"\\ud800", b"{", b"[" * 3000, b"1e999", b"null,", b"\n\n"]
    )
    choices = [
        bytes([*data[:at], *(byte ^ 1 << random_.randrange(8) for byte in data[at:to]), *data[to:]]),
        data[:at] + data[to:],
        data[:at] + put + data[at:],
        data[:to] + data[at:],
        data[at:] + data[:at],
        data[:at] + put + data[to:],
    ]
    return random_.choice(choices)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON document but its root."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, each in inner:
        yield from paths(each, (*path, step))


def hostile(document: Any, path: tuple[str | int, ...], random_: random.Random) -> bytes:
    """The document with a hostile value at `path`, or without anything there."""
    value = random_.choice(HOSTILE)
    copy = json.loads(json.dumps(document))
    place = copy
    for step in path[:-1]:
        place = place[step]
    if value is None and random_.random() < 0.5:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    text = json.dumps(copy)
    for word, raw in {"DEEP": "[" * 50_000, "HUGE": "9" * 5000, "NAN": "NaN"}.items():
        text = text.replace(f'"{word}"', raw)
    return text.encode()
