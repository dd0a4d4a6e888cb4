"""What the conformance suite asks of a provider: a valid request, and every way to spoil it.

A provider's author describes it once as a `Sample`; `test_conformance.py` does the rest.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from linkspan.errors import WebhookRefused
from linkspan.webhooks.base import Provider, Reading, Request, WebhookSettings
from linkspan.webhooks.providers.register import provider

PAYLOADS = Path(__file__).parent / "payloads"
NOW = datetime(2026, 11, 22, 20, 20, 30, tzinfo=UTC)
SECRET = "correct horse battery staple"
OTHER_SECRET = "incorrect horse battery staple"
OTHER_WHSEC = "whsec_" + base64.b64encode(bytes(range(7, 39))).decode()

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Sample:
    """A provider with one source's settings.

    `make` gives the request that the provider would send for a body and settings (their secret signs it).
    `proof` names the header, or with a leading `?` the query parameter, that proves the sender; empty if the
    proof is in the body, as SNS has it: then `spoiled` says what the suite cannot make itself.
    `other_proofs` are proofs in another algorithm or form for the same body, made with the right secret.
    `elsewhere` are bodies that are valid, from the provider, and about something that does not count.
    `retold` are requests that say the same news again, `news` those that say other news.
    `signs`: the proof covers the body. Where it does not, a changed body is only another hint.
    `unsigned_headers`: headers that a replay may change at will. `other_types`: further content types under
    which the provider may send the same body.
    """

    name: str
    settings: WebhookSettings
    body: bytes
    make: Callable[[bytes, WebhookSettings], Request]
    proof: str
    other_proofs: Callable[[bytes], Sequence[str]]
    elsewhere: Mapping[str, bytes]
    retold: Mapping[str, Request] = field(default_factory=dict)
    news: Mapping[str, Request] = field(default_factory=dict)
    spoiled: Mapping[str, Request] = field(default_factory=dict)
    signs: bool = True
    unsigned_headers: Sequence[str] = ()
    other_types: Sequence[str] = ()
    rules: Provider | None = None

    @property
    def provider(self) -> Provider:
        return self.rules or provider(self.settings.provider)

    @property
    def valid(self) -> Request:
        return self.make(self.body, self.settings)


def settings(provider_name: str, **fields: object) -> WebhookSettings:
    given = {"secret": SECRET, "start": ["app-stream/digits"]} | fields
    return WebhookSettings.model_validate({"provider": provider_name} | given)


def post(body: bytes, headers: Headers, query: Sequence[tuple[str, str]] = ()) -> Request:
    """A request as the receiver hands it on, with the headers that every client sends."""
    usual = {"host": "linkspan.example", "accept": "*/*", "content-length": str(len(body))}
    pairs = tuple((name.lower(), value) for name, value in (usual | dict(headers)).items())
    return Request(
        method="POST", path="/hooks/digits", query=tuple(query), headers=pairs, body=body, received=NOW
    )


def read(request: Request, source: WebhookSettings) -> Reading:
    """What the source's provider makes of it, once it believes it."""
    rules = provider(source.provider)
    rules.verify(request, source)
    return rules.read(request, source)


def refused(request: Request, source: WebhookSettings) -> str:
    """The words with which it is refused."""
    with pytest.raises(WebhookRefused) as error:
        read(request, source)
    return str(error.value)


def with_header(request: Request, name: str, *values: str) -> Request:
    """The request with exactly these values of a header: none, one, or several."""
    kept = tuple(pair for pair in request.headers if pair[0] != name)
    return replace(request, headers=kept + tuple((name, value) for value in values))


def with_proof(request: Request, proof: str, *values: str) -> Request:
    """The request with exactly these proofs."""
    if not proof.startswith("?"):
        return with_header(request, proof, *values)
    kept = tuple(pair for pair in request.query if pair[0] != proof[1:])
    return replace(request, query=kept + tuple((proof[1:], value) for value in values))


def proof_of(request: Request, proof: str) -> str:
    return request.parameter(proof[1:]) if proof.startswith("?") else request.header(proof)


def with_secret(settings: WebhookSettings, secret: str) -> WebhookSettings:
    return settings.model_copy(update={"secret": SecretStr(secret)})


def payload(name: str) -> bytes:
    return (PAYLOADS / name).read_bytes()


def changed(body: bytes, *path: str | int, to: object) -> bytes:
    """The JSON with one value replaced; compact, as most providers write it."""
    document = json.loads(body)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
