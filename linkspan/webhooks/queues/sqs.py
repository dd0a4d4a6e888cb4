"""Requests to one queue of Amazon SQS, or of what speaks its protocol."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from linkspan.errors import ConfigError, QueueUnavailable

# The longest that SQS lets a request wait, so the fewest requests: about 130,000 in a month.
_WAIT_SECONDS = 20
# For so long a message in hand is hidden from others: time to make its hints durable.
_HIDDEN_SECONDS = 60
_BATCH = 10
_AWS = re.compile(r"sqs\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?")


@dataclass(frozen=True)
class Message:
    """A message in hand: its ID, the handle by which it is deleted, and what it says."""

    id: str
    handle: str
    body: str


class Queue(Protocol):
    """A queue. Every call but `put_back` raises QueueUnavailable."""

    @property
    def url(self) -> str: ...

    def receive(self) -> Sequence[Message]:
        """At most ten messages, as soon as there is one; none after 20 s."""
        ...

    def delete(self, messages: Sequence[Message]) -> None:
        """These were dealt with."""
        ...

    def put_back(self, messages: Sequence[Message]) -> None:
        """Others may have these now. If that fails they come again by themselves, a minute later."""
        ...


class SqsQueue:
    """A queue by its URL, which also says the region, or the address of a compatible server.

    With the standard AWS credential chain. Raises ConfigError; opens no connection.
    """

    def __init__(self, url: str) -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        self.url = url
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.count("/") < 2:
            raise ConfigError(
                f"{url!r} is no queue's URL",
                expected="https://sqs.<region>.amazonaws.com/<account>/<name>",
                fix="Copy it from the queue's page in the AWS console",
            )
        aws = _AWS.fullmatch(parts.hostname or "")
        options = Config(
            connect_timeout=10,
            # A request waits 20 s; one whose connection died must not wait for ever.
            read_timeout=_WAIT_SECONDS + 15,
            retries={"total_max_attempts": 1},
        )
        session = boto3.Session()
        try:
            self._client: Any = session.client(
                "sqs",
                region_name=aws[1] if aws else session.region_name or "us-east-1",
                endpoint_url=None if aws else f"{parts.scheme}://{parts.netloc}",
                config=options,
            )
        except (BotoCoreError, ValueError) as error:
            raise ConfigError(f"{url} cannot be opened: {error}") from None

    def receive(self) -> Sequence[Message]:
        with self._translated():
            found = self._client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=_BATCH,
                WaitTimeSeconds=_WAIT_SECONDS,
                VisibilityTimeout=_HIDDEN_SECONDS,
            )
        return [
            Message(id=each["MessageId"], handle=each["ReceiptHandle"], body=each.get("Body", ""))
            for each in found.get("Messages", [])
        ]

    def delete(self, messages: Sequence[Message]) -> None:
        if messages:
            # What fails here comes again, and its hints are known by then.
            with self._translated():
                self._client.delete_message_batch(QueueUrl=self.url, Entries=_entries(messages))

    def put_back(self, messages: Sequence[Message]) -> None:
        if messages:
            with contextlib.suppress(QueueUnavailable), self._translated():
                self._client.change_message_visibility_batch(
                    QueueUrl=self.url,
                    Entries=[{**entry, "VisibilityTimeout": 0} for entry in _entries(messages)],
                )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            raise QueueUnavailable(
                f"{self.url} cannot be read",
                found=error.response["Error"]["Code"],
                fix="Its reader needs sqs:ReceiveMessage, sqs:DeleteMessage and sqs:ChangeMessageVisibility",
            ) from None
        except BotoCoreError as error:
            raise QueueUnavailable(f"{self.url} cannot be reached", found=type(error).__name__) from None


def _entries(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"Id": str(at), "ReceiptHandle": each.handle} for at, each in enumerate(messages)]
