"""Every way to spoil a request: in turn for what must be refused, at random for what must not break."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from linkspan.webhooks.base import Request
from tests.webhooks.samples import OTHER_SECRET, OTHER_WHSEC, Sample, proof_of, with_proof, with_secret


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
