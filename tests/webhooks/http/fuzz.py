"""Requests of every provider, spoiled in every way, some signed again after that, into the app itself."""

import asyncio
import json
import random
import string
from collections import Counter
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from linkspan.webhooks.base import Provider, Request
from linkspan.webhooks.http.receiver import create_app
from linkspan.webhooks.inbox.durable import Inbox
from tests.webhooks.providers import git_samples, store_samples
from tests.webhooks.samples import NOW, Sample
from tests.webhooks.stage import FixedRoutes, patient

SAMPLES: Sequence[Sample] = (*git_samples.SAMPLES, *store_samples.SAMPLES)
HOSTILE: Sequence[Any] = (
    None, True, -1, 0, 2**63, 10**400, 0.1, "", "\ud800", "\x00", "\x1b[2J", "\u202e" * 50, "é" * 1000,
    "../" * 50, "x" * 70_000, [], {}, [[]], {"": {}}, ["main"], {"name": "x"}, "refs/heads/main",
)  # fmt: skip
BODIES: Sequence[bytes] = (
    b"", b"null", b"[]", b"{}", b"[null]", b'"x"', b"NaN", b"1e999", b"[" * 50_000, b'{"a":' * 5000,
    b'{"a":1,"a":2}', b"\xef\xbb\xbf{}", b"\xff\xfe\x00", b"\x00" * 100, b"1" * 10_000, b"payload=%7B%7D",
)  # fmt: skip
AT_ONCE = 16
MEMORY_EVERY = 1000


@dataclass
class Outcome:
    """What was answered, and the process's resident memory as it went on, in bytes."""

    statuses: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


async def fuzz(folder: Path, count: int, seed: int) -> Outcome:
    """Send `count` requests."""
    routes = {f"{sample.name}-{number}": sample.settings for number, sample in enumerate(SAMPLES)}
    named: Mapping[str, Provider] = {sample.settings.provider: sample.provider for sample in SAMPLES}
    limits = patient(refused_burst=1e12, route_burst=1e12, body_bytes=60_000)
    outcome = Outcome()
    with Inbox(folder) as inbox:
        app = create_app(FixedRoutes(routes), inbox, limits, providers=named.__getitem__, clock=lambda: NOW)
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                chance = random.Random(f"{seed}.{number}")
                at = chance.randrange(len(SAMPLES))
                call = spoil(SAMPLES[at], f"{SAMPLES[at].name}-{at}", chance)
                status = await ask(app, call, chance)
                outcome.statuses[status] += 1
                if status >= 500:
                    outcome.broken.append(
                        f"{status}, number {number} of seed {seed}: {call.method} {call.path}"
                    )
                if number % MEMORY_EVERY == 0:
                    outcome.memory.append(resident())

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return outcome


def spoil(sample: Sample, name: str, chance: random.Random) -> Request:
    """A request that is valid, or was, or is so but for its content."""
    kind = chance.random()
    body = sample.body
    if kind < 0.5:
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            body = spoil_body(body, chance)
    request = sample.make(body, sample.settings) if kind < 0.95 else sample.valid
    request = replace(request, path=f"/hooks/{name}")
    if kind < 0.25 or kind >= 0.95:
        return request  # believed, whatever it says
    for _ in range(chance.choice((1, 1, 2, 4))):
        request = spoil_request(request, chance)
    return request


def spoil_body(body: bytes, chance: random.Random) -> bytes:  # noqa: PLR0911 one per way
    at, end = sorted(chance.choices(range(len(body) + 1), k=2))
    match chance.randrange(8):
        case 0 if body:
            at = min(at, len(body) - 1)
            return body[:at] + bytes([body[at] ^ 1 << chance.randrange(8)]) + body[at + 1 :]
        case 1:
            return body[:at]
        case 2:
            return body[:at] + body[end:]
        case 3:
            return body[:end] + body[at:]
        case 4:
            return body[:at] + chance.randbytes(chance.randrange(20)) + body[at:]
        case 5:
            return chance.choice(BODIES)
    return spoil_json(body, chance)


def spoil_json(body: bytes, chance: random.Random) -> bytes:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return body
    place = document
    while isinstance(place, dict | list) and place:
        key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not isinstance(place[key], dict | list) or not place[key] or chance.random() < 0.3:
            place[key] = chance.choice(HOSTILE)
            break
        place = place[key]
    return json.dumps(document, ensure_ascii=chance.random() < 0.7).encode("utf-8", "surrogatepass")


def spoil_request(request: Request, chance: random.Random) -> Request:
    headers, query = list(request.headers), list(request.query)
    match chance.randrange(9):
        case 0 if headers:
            headers.pop(chance.randrange(len(headers)))
        case 1 if headers:
            headers.append(chance.choice(headers))
        case 2 if headers:
            at = chance.randrange(len(headers))
            headers[at] = (headers[at][0], noise(chance))
        case 3:
            headers.append((noise(chance, string.ascii_lowercase + "-") or "x", noise(chance)))
        case 4:
            names = (
                "content-encoding",
                "content-length",
                "transfer-encoding",
                "host",
                "authorization",
                "ce-specversion",
            )
            headers.append(
                (chance.choice(names), chance.choice(("gzip", "[", "1.0", "Basic \xff", noise(chance))))
            )
        case 5:
            query.append((chance.choice(("code", "token", noise(chance))), noise(chance)))
        case 6:
            query = [(key, noise(chance)) for key, _ in query] * chance.choice((1, 2, 60))
        case 7:
            return replace(
                request, path="/hooks/" + chance.choice(("", "x", "%", "é\ud800", "a/b", noise(chance)))
            )
        case 8:
            return replace(
                request, method=chance.choice(("OPTIONS", "GET", "PUT", "HEAD", "TRACE", "BREW", ""))
            )
    return replace(request, headers=tuple(headers), query=tuple(query))


def noise(chance: random.Random, letters: str = "".join(map(chr, range(256)))) -> str:
    return "".join(chance.choices(letters, k=chance.choice((0, 1, 5, 50, 500))))


async def ask(app: Any, request: Request, chance: random.Random) -> int:
    """The status that the app answers. Any exception of the app comes out of this."""
    query = "&".join(f"{key}={value}" for key, value in request.query).encode("latin-1", "replace")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
        "method": request.method, "path": request.path, "raw_path": request.path.encode("utf-8", "replace"),
        "query_string": query, "root_path": "", "server": ("127.0.0.1", 80),
        "client": chance.choice((("127.0.0.1", 1), ("::1", 1), None)),
        "headers": [tuple(each.encode("latin-1", "replace") for each in pair) for pair in request.headers],
    }  # fmt: skip
    chunks = [request.body]
    if chance.random() < 0.2:
        size = chance.randrange(1, 1000)
        chunks = [request.body[at : at + size] for at in range(0, len(request.body), size)] or [b""]
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages[-1]["more_body"] = False
    if chance.random() < 0.02:
        messages[-1] = {"type": "http.disconnect"}
    statuses: list[int] = []

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
            for key, value in message["headers"]:
                assert b"\n" not in key + value
                assert b"\r" not in key + value

    await app(scope, receive, send)
    assert len(statuses) == 1
    return statuses[0]


def resident() -> int:
    """Bytes of memory that the process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
