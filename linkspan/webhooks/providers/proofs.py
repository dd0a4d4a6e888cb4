"""Proofs that a request comes from who knows the secret: each raises WebhookRefused unless it is right.

All of them look at the raw body, compute what they expect before they look at what came, and compare in
constant time. Their words go to the log: they say what to mend, and never hold the secret or a signature.
"""

import base64
import hashlib
import hmac
import re

from linkspan.errors import WebhookRefused
from linkspan.webhooks.base import Request, WebhookSettings

# Standard Webhooks leaves the number to the receiver; its own libraries take this one.
TOLERANCE_SECONDS = 300
STANDARD_PREFIX = "whsec_"
# The headers of the Standard Webhooks specification: ID, timestamp, signature.
STANDARD_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
SHOWN_HEADER = "x-linkspan-secret"
# `code` is what Azure's own webhooks call it, `token` what people try next.
SHOWN_PARAMETERS = ("code", "token")

_FIX = "Put the same secret into the webhook's settings at the provider and into the block"


def same(expected: str, found: str) -> bool:
    """Whether two texts are equal, in a time that does not tell where they differ."""
    # compare_digest takes no str beyond ASCII, and a header may hold anything.
    return hmac.compare_digest(
        expected.encode("utf-8", "surrogatepass"), found.encode("utf-8", "surrogatepass")
    )


def secret_of(settings: WebhookSettings) -> str:
    """The secret in the clear, for a moment."""
    return settings.secret.get_secret_value()


def check_hmac(request: Request, settings: WebhookSettings, header: str, prefix: str = "") -> None:
    """The header is `prefix` and the HMAC-SHA256 of the body (RFC 2104) in lower-case hex, no more."""
    digest = hmac.new(secret_of(settings).encode(), request.body, hashlib.sha256).hexdigest()
    _check(header, prefix + digest, request.header(header), f"{prefix}<hex HMAC-SHA256 of the body>")


def check_token(settings: WebhookSettings, found: str, where: str) -> None:
    """What came in `where` is the secret itself. It proves who sent it, and nothing about the body."""
    _check(where, secret_of(settings), found, "the secret")


def check_basic(request: Request, settings: WebhookSettings) -> None:
    """HTTP Basic authentication (RFC 7617) with the settings' user name and secret."""
    pair = f"{settings.username}:{secret_of(settings)}".encode()
    scheme, _, found = request.header("authorization").partition(" ")
    # A scheme is in any case (RFC 9110, 11.1).
    found = found.strip() if scheme.lower() == "basic" else ""
    _check("authorization", base64.b64encode(pair).decode(), found, f"Basic, as user {settings.username}")


def check_shown(request: Request, settings: WebhookSettings, *, basic: bool = False) -> None:
    """The request shows the source's secret, and no other, because its sender can sign nothing.

    It proves who sent, not what was sent, nor when: whoever sees one such request can send others. So these
    rules want HTTPS in front, and what a hint can do is small: a run starts and looks for itself.
    The places: the header X-Linkspan-Secret, the query (`?code=` or `?token=`) and, with `basic`, HTTP Basic
    authentication. Each may be there once.
    """
    shown = {f"the header {SHOWN_HEADER}": request.header(SHOWN_HEADER)}
    shown |= {f"the query's {name}": request.parameter(name) for name in SHOWN_PARAMETERS}
    given = {where: found for where, found in shown.items() if found}
    if basic and request.header("authorization"):
        check_basic(request, settings)
    elif not given:
        check_token(settings, "", f"the header {SHOWN_HEADER} or the query's {SHOWN_PARAMETERS[0]}")
    for where, found in given.items():
        check_token(settings, found, where)


def check_standard(request: Request, key: bytes, headers: tuple[str, str, str] = STANDARD_HEADERS) -> str:
    """Symmetric signature v1 of Standard Webhooks 1.0.0; returns the message's ID, which is signed too.

    HMAC-SHA256 over `id.timestamp.body`, in base64, at most five minutes old. Several signatures may be there
    while a secret is changed: one of them must be ours.
    """
    id_name, time_name, signature_name = headers
    identity, timestamp = request.header(id_name), request.header(time_name)
    signed = f"{identity}.{timestamp}.".encode("utf-8", "surrogatepass") + request.body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    found = request.header(signature_name)
    # All are compared, whichever is right.
    if not sum(same(expected, each) for each in found.split(" ")):
        _check(signature_name, expected, found, "v1,<base64 HMAC-SHA256 of id.timestamp.body>")
    # With a dot in the ID, another ID and time could be cut out of the same signed text.
    if not re.fullmatch(r"[!-\-/-~]{1,150}", identity):
        raise WebhookRefused(f"the header {id_name} is no ID", expected="printable ASCII without a dot")
    if not re.fullmatch(r"[0-9]{1,11}", timestamp):
        raise WebhookRefused(f"the header {time_name} is no time", expected="seconds since 1970")
    late = request.received.timestamp() - int(timestamp)
    if abs(late) > TOLERANCE_SECONDS:
        raise WebhookRefused(
            f"the request was signed {abs(late):.0f} s {'ago' if late > 0 else 'in the future'}",
            expected=f"at most {TOLERANCE_SECONDS} s",
            fix="If it is no replay, one of the two clocks is wrong",
        )
    return identity


def standard_key(settings: WebhookSettings) -> bytes:
    """The key in a secret: `whsec_` and base64, as Standard Webhooks writes it; any other text as it is."""
    secret = secret_of(settings)
    if not secret.startswith(STANDARD_PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except ValueError:
        key = b""
    if len(key) < 24:
        raise WebhookRefused(
            "the block's secret begins with whsec_ but is none",
            expected="whsec_ and at least 24 bytes in base64",
            fix="Copy it again, as a whole",
        )
    return key


def _check(where: str, expected: str, found: str, form: str) -> None:
    if same(expected, found):
        return
    if not found:
        problem = "nothing: the webhook at the provider has no secret, or this is not the provider"
    elif found.lower().startswith(("sha1=", "md5=", "sha512=")) or len(found) != len(expected):
        problem = "something of another form"
    else:
        problem = "another one: another secret, or a body that was changed on the way"
    raise WebhookRefused(f"the proof in {where} is not right", expected=form, found=problem, fix=_FIX)
