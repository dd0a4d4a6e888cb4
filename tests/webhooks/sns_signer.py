"""SNS as far as a receiver sees it: messages signed with a real key, and the certificate of that key."""

import base64
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from linkspan.webhooks.base import Request, WebhookSettings

REGION = "eu-central-1"
TOPIC = f"arn:aws:sns:{REGION}:123456789012:models"
FILE = "SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
URL = f"https://sns.{REGION}.amazonaws.com/{FILE}"
SECRET = "correct horse battery staple"
NOW = datetime(2026, 11, 22, 10, 11, 13, tzinfo=UTC)
SETTINGS = WebhookSettings.model_validate(
    {
        "provider": "sns",
        "secret": SECRET,
        "start": ["model-stream/digits"],
        "container": "models",
        "prefix": "digits",
        "topic": TOPIC,
    }
)


@cache
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def other_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def certificate(days_ago: int = 30, days: int = 365) -> bytes:
    """A certificate of `key`, made so long ago, for so many days; PEM."""
    begin = NOW - timedelta(days=days_ago)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .sign(key(), hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def message(body: str, **changes: Any) -> dict[str, Any]:
    """A notification, not signed yet."""
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Subject": "Amazon S3 Notification",
        "Message": body,
        "Timestamp": "2026-11-22T10:11:12.500Z",
        "SignatureVersion": "2",
        "SigningCertURL": URL,
        "UnsubscribeURL": f"https://sns.{REGION}.amazonaws.com/?Action=Unsubscribe&SubscriptionArn={TOPIC}:1",
    } | changes


def control(kind: str, **changes: Any) -> dict[str, Any]:
    """A SubscriptionConfirmation or UnsubscribeConfirmation, not signed yet."""
    return {
        "Type": kind,
        "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "Token": "2336412f37fb687f5d51e6e241d09c805a5a57b30d712f79",
        "TopicArn": TOPIC,
        "Message": "You have chosen to subscribe.\nTo confirm, visit the SubscribeURL.",
        "SubscribeURL": f"https://sns.{REGION}.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2",
        "Timestamp": "2026-11-22T10:11:12.500Z",
        "SignatureVersion": "2",
        "SigningCertURL": URL,
    } | changes


def signed(document: dict[str, Any], *, with_key: rsa.RSAPrivateKey | None = None) -> dict[str, Any]:
    """The same with its signature. Written from the documentation, not from our own code."""
    names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    lines = "".join(f"{name}\n{document[name]}\n" for name in names if name in document)
    algorithm = {"1": hashes.SHA1, "2": hashes.SHA256}.get(document["SignatureVersion"], hashes.SHA256)()
    signature = (with_key or key()).sign(lines.encode(), padding.PKCS1v15(), algorithm)
    return document | {"Signature": base64.b64encode(signature).decode()}


def request(document: dict[str, Any], *, secret: str = SECRET, received: datetime = NOW) -> Request:
    """The request as SNS sends it: JSON with blanks around the colons, called text."""
    kind = str(document.get("Type", ""))
    return Request(
        method="POST",
        path="/hooks/models",
        query=(("code", secret),) if secret else (),
        headers=(
            ("x-amz-sns-message-type", kind),
            ("x-amz-sns-message-id", str(document.get("MessageId", ""))),
            ("x-amz-sns-topic-arn", str(document.get("TopicArn", ""))),
            ("content-type", "text/plain; charset=UTF-8"),
            ("user-agent", "Amazon Simple Notification Service Agent"),
        ),
        body=json.dumps(document, indent=2, separators=(",", " : ")).encode(),
        received=received,
    )
