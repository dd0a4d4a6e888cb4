"""The server's feed of events: what arrived, what it started, what became of it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from linkspan.errors import ServerUnavailable
from linkspan.prefect_api.http import ServerHttp
from linkspan.prefect_api.values import Event

_PAGE = 50  # the most that the server gives at once
# Events are written in batches and may arrive late: whoever follows looks back this far, each time.
_LATE = timedelta(seconds=30)
_AHEAD = timedelta(days=2)
_EVERY = 1.0


Wanted = Callable[[Event], bool]


def recent(
    http: ServerHttp, prefixes: Sequence[str], since: datetime, limit: int, wanted: Wanted
) -> list[Event]:
    """The newest `limit` wanted events since then, oldest first, whose name begins with one of these."""
    asked = {
        "event": {"prefix": list(prefixes)},
        # A machine whose clock is ahead has events from the future.
        "occurred": {"since": since.isoformat(), "until": (datetime.now(UTC) + _AHEAD).isoformat()},
        "order": "DESC",
    }
    page = http.post("events/filter", {"filter": asked, "limit": _PAGE})
    found: list[Event] = []
    while True:
        found += [event for each in page["events"] if wanted(event := Event.of(each))]
        if len(found) >= limit or not page["next_page"]:
            return found[:limit][::-1]
        # The link has the address by which the server knows itself; only what is asked for matters.
        page = http.get("events/filter/next?" + page["next_page"].partition("?")[2])


def follow(
    http: ServerHttp, prefixes: Sequence[str], since: datetime, limit: int, wanted: Wanted
) -> Iterator[Event]:
    """The same, and then every further one as it comes, for ever. A server that is away is waited for.

    Of more than `limit` that come within half a minute the oldest are left out.
    """
    seen: dict[str, datetime] = {}
    while True:
        with suppress(ServerUnavailable):
            for event in recent(http, prefixes, since, limit, wanted):
                if event.id not in seen:
                    seen[event.id] = event.at
                    yield event
            since = max(since, datetime.now(UTC) - _LATE)
            seen = {key: at for key, at in seen.items() if at >= since}
        time.sleep(_EVERY)
