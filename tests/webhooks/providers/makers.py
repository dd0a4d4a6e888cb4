"""Requests as each git server makes them: its headers, and its signature over the body."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

from linkspan.webhooks.base import Request, WebhookSettings
from linkspan.webhooks.providers.proofs import secret_of, standard_key
from tests.webhooks.samples import NOW, SECRET, Headers, post

ZERO = "0" * 40
OTHER_SHA = "7" * 40
WHSEC = "whsec_" + base64.b64encode(bytes(range(32))).decode()
JSON = {"content-type": "application/json"}
PLAIN = {"content-type": "text/plain; charset=utf-8"}


def hex_hmac(body: bytes, secret: str, algorithm: str = "sha256") -> str:
    return hmac.new(secret.encode(), body, algorithm).hexdigest()


def hmac_maker(header: str, prefix: str, headers: Headers) -> Callable[[bytes, WebhookSettings], Request]:
    def make(body: bytes, settings: WebhookSettings) -> Request:
        return post(body, {**headers, header: prefix + hex_hmac(body, secret_of(settings))})

    return make


def other_hmacs(prefix: str) -> Callable[[bytes], Sequence[str]]:
    """The same secret and body by other rules: other hashes, other spelling, twice."""

    def proofs(body: bytes) -> Sequence[str]:
        right = hex_hmac(body, SECRET)
        raw = hmac.new(SECRET.encode(), body, "sha256").digest()
        return [
            "sha1=" + hex_hmac(body, SECRET, "sha1"),
            hex_hmac(body, SECRET, "sha1"),
            "sha512=" + hex_hmac(body, SECRET, "sha512"),
            prefix + hex_hmac(body, SECRET, "sha512"),
            prefix + base64.b64encode(raw).decode(),
            prefix + right.upper(),
            "SHA256=" + right,
            prefix + hashlib.sha256(body).hexdigest(),
            prefix + hashlib.sha256(SECRET.encode() + body).hexdigest(),
            f"{prefix}{right},{prefix}{right}",
            f"{prefix}{right} {prefix}{right}",
            f" {prefix}{right}",
            right if prefix else f"sha256={right}",
            prefix,
            SECRET,
        ]

    return proofs


def standard(body: bytes, settings: WebhookSettings, identity: str = "msg_2VbQ", age: float = 0) -> Request:
    timestamp = str(int(NOW.timestamp() - age))
    signed = f"{identity}.{timestamp}.".encode() + body
    mac = hmac.new(standard_key(settings), signed, "sha256").digest()
    return post(
        body,
        JSON
        | {
            "webhook-id": identity,
            "webhook-timestamp": timestamp,
            "webhook-signature": "v1," + base64.b64encode(mac).decode(),
        },
    )


def other_standards(body: bytes) -> Sequence[str]:
    signed = f"msg_2VbQ.{int(NOW.timestamp())}.".encode() + body
    key = bytes(range(32))
    return [
        "v1," + base64.b64encode(hmac.new(key, signed, "sha1").digest()).decode(),
        "v1," + base64.b64encode(hmac.new(key, signed, "sha512").digest()).decode(),
        "v1," + hmac.new(key, signed, "sha256").hexdigest(),
        "v1," + base64.b64encode(hmac.new(key, body, "sha256").digest()).decode(),
        # Signed with the text of the secret, where its base64 is the key.
        "v1," + base64.b64encode(hmac.new(WHSEC.encode(), signed, "sha256").digest()).decode(),
        "v1a," + base64.b64encode(hmac.new(key, signed, "sha256").digest()).decode(),
        base64.b64encode(hmac.new(key, signed, "sha256").digest()).decode(),
        "v1,",
        WHSEC,
    ]


def basic(body: bytes, settings: WebhookSettings) -> Request:
    pair = f"{settings.username}:{secret_of(settings)}".encode()
    return post(
        body,
        {
            "content-type": "application/json; charset=utf-8",
            "authorization": "Basic " + base64.b64encode(pair).decode(),
        },
    )


def gitlab_token(body: bytes, settings: WebhookSettings) -> Request:
    return post(
        body,
        JSON
        | {
            "x-gitlab-event": "Push Hook",
            "x-gitlab-token": secret_of(settings),
            "idempotency-key": "0b2a1d5e-8c1f-4d7a-9a51-6a0f5a7d1815",
            "x-gitlab-event-uuid": "13792a34-cac6-4fda-95a8-c58e00a3954e",
            "webhook-id": "0b2a1d5e-8c1f-4d7a-9a51-6a0f5a7d1815",
            "webhook-timestamp": str(int(NOW.timestamp())),
        },
    )


def github_form(body: bytes, settings: WebhookSettings) -> Request:
    """GitHub's other content type: the JSON as a field of a form, and the signature over the form."""
    form = urlencode({"payload": body.decode(errors="surrogateescape")}, errors="surrogateescape").encode()
    headers = GITHUB | {"content-type": "application/x-www-form-urlencoded"}
    return hmac_maker("x-hub-signature-256", "sha256=", headers)(form, settings)


GITHUB = JSON | {
    "user-agent": "GitHub-Hookshot/1a2b3c4",
    "x-github-event": "push",
    "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    "x-github-hook-id": "501223",
    # GitHub sends it beside the other; it must never count.
    "x-hub-signature": "sha1=7d38cdd689735b008b3c702edd92eea23791c5f6",
}
GITEA = JSON | {
    "x-gitea-event": "push",
    "x-gitea-event-type": "push",
    "x-gitea-delivery": "f6266f16-1bf3-46a5-9ea4-602e06ead473",
    # For who reads GitHub's headers.
    "x-github-event": "push",
    "x-github-delivery": "f6266f16-1bf3-46a5-9ea4-602e06ead473",
}
FORGEJO = {name.replace("gitea", "forgejo"): value for name, value in GITEA.items()}
BITBUCKET = JSON | {
    "x-event-key": "repo:push",
    "x-hook-uuid": "8a3f1c1e-5b1f-4c43-9f1e-0d5c7f2a9f00",
    "x-request-uuid": "1f6c0f7a-1111-4b6e-8f53-0c6f3f7d2a00",
    "x-attempt-number": "1",
}
