"""The two requests to AWS that receiving from SNS needs: a certificate, and yes to a subscription."""

import time

from linkspan.errors import WebhookRefused, WebhookUnchecked

# A certificate is about 2 KiB.
_CAP = 64 << 10
# SNS gives up on an answer after 15 s.
_SECONDS = 5.0


def fetch_certificate(url: str, *, seconds: float = _SECONDS) -> bytes:
    """What is at `url`: at most 64 KiB, no redirect followed, in `seconds` at most.

    The caller has checked the address. Raises WebhookUnchecked if it cannot be had now, WebhookRefused if the
    answer is another one than a certificate's.
    """
    import httpx

    end = time.monotonic() + seconds
    try:
        with (
            httpx.Client(
                timeout=seconds, follow_redirects=False, headers={"User-Agent": "linkspan"}
            ) as client,
            client.stream("GET", url) as answer,
        ):
            if answer.status_code >= 500 or answer.status_code == 429:
                raise _away(f"HTTP {answer.status_code}")
            if answer.status_code != 200:
                raise WebhookRefused(
                    "there is no certificate at the message's address", found=f"HTTP {answer.status_code}"
                )
            content = bytearray()
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > _CAP:
                    raise WebhookRefused("the certificate is too big", expected=f"at most {_CAP} bytes")
                if time.monotonic() > end:
                    raise _away("it comes too slowly")
            return bytes(content)
    except httpx.HTTPError as error:
        raise _away(type(error).__name__) from None


def confirm_subscription(topic: str, region: str, token: str, *, endpoint_url: str | None = None) -> None:
    """Say yes to the subscription that `token` was sent for, with the credentials of this machine.

    From then on only the topic's owner can unsubscribe (AuthenticateOnUnsubscribe). Needs the right
    sns:ConfirmSubscription. Raises WebhookUnchecked if AWS cannot be asked now, WebhookRefused if it says no.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    options = Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"total_max_attempts": 2})
    try:
        client = boto3.Session().client("sns", region_name=region, endpoint_url=endpoint_url, config=options)
        client.confirm_subscription(TopicArn=topic, Token=token, AuthenticateOnUnsubscribe="true")
    except ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status >= 500 or code in {"Throttling", "ThrottledException"}:
            raise _unconfirmed(topic, code) from None
        raise WebhookRefused(
            f"the subscription to {topic} cannot be confirmed",
            found=code,
            fix="Grant sns:ConfirmSubscription to this machine's role, then have SNS ask again",
        ) from None
    except BotoCoreError as error:
        # NoCredentialsError among them: once there are some, the next try of SNS succeeds.
        raise _unconfirmed(topic, type(error).__name__) from None


def _away(found: str) -> WebhookUnchecked:
    return WebhookUnchecked(
        "the certificate of the message cannot be had from SNS",
        found=found,
        fix="The receiver must reach https://sns.<region>.amazonaws.com; SNS sends the message again",
    )


def _unconfirmed(topic: str, found: str) -> WebhookUnchecked:
    return WebhookUnchecked(
        f"the subscription to {topic} cannot be confirmed now",
        found=found,
        fix="The receiver needs credentials that may sns:ConfirmSubscription; SNS asks again",
    )
