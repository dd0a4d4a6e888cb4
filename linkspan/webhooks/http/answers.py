"""What the receiver answers, and when: never a word of why, and refusals at times that tell nothing."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from linkspan.errors import LinkspanError


@dataclass(frozen=True)
class Answer:
    """What the client gets, and what the log says of it."""

    status: int
    word: str
    detail: str = ""
    reply: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def unavailable(error: LinkspanError) -> Answer:
    """What is wrong may pass: the sender shall tell it again."""
    return later(503, 10, str(error))


def later(status: int, seconds: float, reason: str) -> Answer:
    """Come back after so many seconds."""
    return Answer(
        status,
        "not accepted",
        reason,
        headers={"Retry-After": str(math.ceil(seconds)), "Connection": "close"},
    )


def to_grid(seconds: float, grid: float) -> float:
    """Seconds from here to the next multiple of `grid`."""
    return math.ceil(seconds / grid) * grid - seconds if grid else 0.0


def response(answer: Answer) -> Response:
    """What goes over the wire: without `reply`, a provider's handshake, nothing but the status."""
    if answer.reply is None:
        return Response(status_code=answer.status, headers=dict(answer.headers))
    return Response(
        json.dumps(answer.reply),
        status_code=answer.status,
        headers=dict(answer.headers),
        media_type="application/json",
    )
