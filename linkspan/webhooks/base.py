"""What passes between the receiver and the rules of each provider, as values.

A provider is two plain functions: is this request from there (`verify`), and what does it say (`read`)?
It never decides what to build: a hint says only that something may be new, and the run that it starts looks
for itself (DESIGN.md, "edge-triggered, level-driven").
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from pydantic import BaseModel, Field, SecretStr

from linkspan.errors import WebhookRefused
from linkspan.nouns import Noun

BLOCK = "webhook-source"
"""The type of the blocks that hold sources."""


@dataclass(frozen=True)
class Request:
    """An HTTP request as it came. Header names are in lower case; a repeated one is there twice."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    body: bytes
    received: datetime

    def header(self, name: str) -> str:
        """The one value of a header; empty if it is missing. Raises WebhookRefused if it is there twice.

        Two values are ambiguous: a proxy in front may have looked at the other one.
        """
        return self._one(f"header {name}", [value for key, value in self.headers if key == name])

    def parameter(self, name: str) -> str:
        """The one value of a query parameter, like `header`."""
        return self._one(f"query parameter {name}", [value for key, value in self.query if key == name])

    def digest(self) -> str:
        """The SHA-256 of the body in hex: the same words said twice are one hint."""
        return hashlib.sha256(self.body).hexdigest()

    def _one(self, what: str, values: list[str]) -> str:
        if len(values) > 1:
            raise WebhookRefused(f"the {what} is there {len(values)} times", expected="once")
        return values[0] if values else ""


class Hint(Noun):
    """That something may have changed.

    `key` is the same for the same news, however often it is told, and comes from what the signature covers;
    `text` is for people, in one line. `at` is when the sender says it happened: shown, never compared.
    """

    key: str = Field(min_length=1, max_length=200)
    text: str = Field(max_length=300)
    at: datetime | None = None


@dataclass(frozen=True)
class Reading:
    """What a verified request says. `reply` is the answer's JSON where the provider expects one.

    Without hints `ignored` says why nothing starts: another branch, a ping. That is no error: the sender gets
    a 2xx, because some switch a hook off that answers otherwise.
    """

    hints: tuple[Hint, ...] = ()
    ignored: str = ""
    reply: Mapping[str, Any] | None = None
    reply_headers: Mapping[str, str] = field(default_factory=dict)


class WebhookSettings(BaseModel):
    """One source that calls us: who it is, what of it counts, and which deployments it starts.

    The fields of the block `webhook-source`; its name is the last part of the URL.
    """

    provider: str = Field(description="Who calls: github, gitlab, azure-repos, event-grid, … (see the docs).")
    secret: SecretStr = Field(
        min_length=16, description="What only the caller and Linkspan know; `linkspan connect` makes one."
    )
    start: list[str] = Field(
        min_length=1, description="Deployments to start, as flow/deployment: app-stream/digits."
    )
    repository: str = Field(
        default="", description="Git: the repository as its server spells it, owner/name. Others are ignored."
    )
    branch: str = Field(default="main", description="Git: the branch that counts.")
    container: str = Field(
        default="",
        description="Models: the bucket or container; Event Grid: account/container; MLflow: the model.",
    )
    prefix: str = Field(default="", description="Models: only what is below this counts.")
    username: str = Field(default="linkspan", description="The user name, where the provider sends one.")
    topic: str = Field(default="", description="SNS: the topic's ARN. Other topics are refused.")
    queue: str = Field(default="", description="SQS: the queue's URL, which is read instead of called.")


class Provider(Protocol):
    """The rules of one provider. Both calls may be made from several threads."""

    def verify(self, request: Request, settings: WebhookSettings) -> None:
        """Raises WebhookRefused unless whoever sent this knows the secret. Never parses before that.

        The provider's own rule on the raw body, compared in constant time.
        """
        ...

    def read(self, request: Request, settings: WebhookSettings) -> Reading:
        """What a verified request says. Raises WebhookRefused if it cannot be understood."""
        ...
