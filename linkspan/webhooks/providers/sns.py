"""Amazon SNS: a topic that a bucket notifies calls this URL.

Every message is signed with a key whose certificate SNS serves itself. Before anything is parsed or fetched
the secret in the URL (`?code=`) is compared: a stranger can neither make us parse nor make us call AWS. Then
the topic must be the source's, the certificate must come from the one host that serves this topic's region,
and the signature must be right.

Replays: SNS tries for at most an hour, with the same MessageId and Timestamp. A message may be a day old, so
that clocks may differ; told again within that day it is the same records, hence the same hints.

Sources: SNS developer guide, "Verifying the signatures", "Parsing message formats", "Message delivery
retries".
"""

import base64
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import NamedTuple

from linkspan.errors import WebhookRefused, WebhookUnchecked
from linkspan.webhooks.base import Reading, Request, WebhookSettings
from linkspan.webhooks.providers import s3_events
from linkspan.webhooks.providers.certificates import SECONDS, Certificates, fetch_certificate
from linkspan.webhooks.providers.payload import JSON, brief, decode, moment, parse, text
from linkspan.webhooks.providers.proofs import check_shown

MAX_AGE = timedelta(days=1)
NOTIFICATION = "Notification"
_SUBSCRIPTION, _UNSUBSCRIPTION = "SubscriptionConfirmation", "UnsubscribeConfirmation"
_CONTROL = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    _SUBSCRIPTION: _CONTROL,
    _UNSUBSCRIPTION: _CONTROL,
}
_ARN = re.compile(r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z0-9-]{3,30}):[0-9]{12}:[A-Za-z0-9_.-]{1,256}")
_FILE = re.compile(r"/[A-Za-z0-9_-]{1,100}\.pem")


class Topic(NamedTuple):
    """A topic's ARN, taken apart."""

    arn: str
    partition: str
    region: str

    @property
    def host(self) -> str:
        """The one host that serves the certificates of this topic's messages."""
        suffix = ".cn" if self.partition == "aws-cn" else ""
        return f"sns.{self.region}.amazonaws.com{suffix}"


def confirm_subscription(topic: Topic, token: str, *, endpoint_url: str | None = None) -> None:
    """Say yes to the subscription that `token` was sent for, with the credentials of this machine.

    From then on only the topic's owner can unsubscribe (AuthenticateOnUnsubscribe). Needs the right
    sns:ConfirmSubscription. Raises WebhookUnchecked if AWS cannot be asked now, WebhookRefused if it says no.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    options = Config(connect_timeout=SECONDS, read_timeout=SECONDS, retries={"total_max_attempts": 2})
    try:
        client = boto3.Session().client(
            "sns", region_name=topic.region, endpoint_url=endpoint_url, config=options
        )
        client.confirm_subscription(TopicArn=topic.arn, Token=token, AuthenticateOnUnsubscribe="true")
    except ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status >= 500 or code in {"Throttling", "ThrottledException"}:
            raise _unconfirmed(topic, code) from None
        raise WebhookRefused(
            f"the subscription to {topic.arn} cannot be confirmed",
            found=code,
            fix="Grant sns:ConfirmSubscription to this machine's role, then have SNS ask again",
        ) from None
    except BotoCoreError as error:
        # NoCredentialsError among them: once there are some, the next try of SNS succeeds.
        raise _unconfirmed(topic, type(error).__name__) from None


class Sns:
    """The rules of SNS; it holds the certificates that were fetched.

    `fetch` gets a certificate (PEM) from a URL, `confirm` accepts a subscription by topic and token. Both
    raise WebhookUnchecked if AWS cannot be asked now.
    """

    def __init__(
        self,
        fetch: Callable[[str], bytes] = fetch_certificate,
        confirm: Callable[[Topic, str], None] = confirm_subscription,
    ) -> None:
        self._certificates = Certificates(fetch)
        self._confirm = confirm

    def verify(self, request: Request, settings: WebhookSettings) -> None:
        """Raises WebhookRefused unless the message is signed by SNS for the source's topic, and of today.

        Raises WebhookUnchecked if the certificate cannot be had now.
        """
        check_shown(request, settings)
        topic = topic_of(settings)
        message = _envelope(request)
        if text(message, "TopicArn") != topic.arn:
            raise WebhookRefused(
                "another topic", expected=topic.arn, found=brief(text(message, "TopicArn"), 150)
            )
        signed = string_to_sign(message)
        address = text(message, "SigningCertURL")
        if not is_certificate_url(address, topic):
            raise WebhookRefused(
                "the certificate is not at SNS",
                expected=f"https://{topic.host}/….pem",
                found=brief(address, 150),
            )
        try:
            signature = base64.b64decode(text(message, "Signature"), validate=True)
        except ValueError:
            raise WebhookRefused("the signature is not base64") from None
        version = text(message, "SignatureVersion")
        self._certificates.verify(address, version, signature, signed, at=request.received)
        sent = moment(message, "Timestamp")
        if sent is None or abs(request.received - sent) > MAX_AGE:
            raise WebhookRefused(
                "the message is too old, or this machine's clock is wrong",
                expected="at most a day",
                found=str(request.received - sent) if sent else "no time",
            )

    def read(self, request: Request, settings: WebhookSettings) -> Reading:
        """The hints in a notification; a subscription is confirmed. Raises WebhookRefused.

        Raises WebhookUnchecked if the subscription cannot be confirmed now: SNS tries again.
        """
        message = _envelope(request)
        kind = text(message, "Type")
        if kind == _SUBSCRIPTION:
            topic = topic_of(settings)
            # By the API, with our own credentials; SubscribeURL would be a request that somebody else wrote.
            self._confirm(topic, text(message, "Token"))
            return Reading(ignored=f"the subscription to {topic.arn} is confirmed")
        if kind == _UNSUBSCRIPTION:
            return Reading(ignored="the topic calls here no more: somebody unsubscribed this URL")
        return read_message(message, settings)


def read_message(message: object, settings: WebhookSettings) -> Reading:
    """The hints in a notification's envelope, whether it came by HTTP or through a queue."""
    return s3_events.read_any(decode(text(message, "Message").encode()), settings)


def topic_of(settings: WebhookSettings) -> Topic:
    """The source's topic. Raises WebhookRefused if it has none, or none of SNS."""
    found = _ARN.fullmatch(settings.topic)
    if found is None:
        raise WebhookRefused(
            "this source names no topic",
            expected="arn:aws:sns:<region>:<account>:<name>",
            found=settings.topic or "nothing",
            fix="Write the topic's ARN into the field `topic` of its block",
        )
    return Topic(arn=found[0], partition=found[1], region=found[2])


def string_to_sign(message: Mapping[str, object]) -> bytes:
    """What SNS signed: names and values, a line each, sorted by name. Raises WebhookRefused."""
    kind = text(message, "Type")
    if kind not in _SIGNED:
        raise WebhookRefused(
            "an unknown type of message", expected=" or ".join(_SIGNED), found=brief(kind, 50)
        )
    lines = []
    for name in _SIGNED[kind]:
        # A notification without a subject has no such member; all others are always there.
        if name == "Subject" and message.get(name) is None:
            continue
        lines += [name, text(message, name)]
    return ("\n".join(lines) + "\n").encode()


def is_certificate_url(address: str, topic: Topic) -> bool:
    """Whether the address is of a certificate, at the SNS of the topic's region, and nothing else.

    A rule for any region is not enough: a bucket called `sns` answers at sns.s3-us-west-2.amazonaws.com.
    """
    host = f"https://{topic.host}"
    return address.startswith(host) and _FILE.fullmatch(address.removeprefix(host)) is not None


def _envelope(request: Request) -> dict[str, object]:
    # text/plain is what SNS sends unless its delivery policy names another type.
    message = parse(request, "text/plain", JSON)
    if request.header("x-amz-sns-rawdelivery") or "Type" not in message:
        raise WebhookRefused(
            "the message has no envelope, so no signature",
            fix="Turn raw message delivery off for this subscription",
        )
    return message


def _unconfirmed(topic: Topic, found: str) -> WebhookUnchecked:
    return WebhookUnchecked(
        f"the subscription to {topic.arn} cannot be confirmed now",
        found=found,
        fix="The receiver needs credentials that may sns:ConfirmSubscription; SNS asks again",
    )
