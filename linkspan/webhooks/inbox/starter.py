"""From the inbox to runs: every batch of hints is asked for until the server has it, however long that takes.

The first hint of a deployment starts a run at once; those that come within the next seconds share the run
after it, because a run looks for itself what is newest. What the server refuses for good is kept with its
reason and holds up nobody else.
"""

import random
import threading
import time
import traceback
from collections.abc import Callable
from typing import Self

import httpx

from linkspan.errors import (
    ConfigError,
    InboxUnavailable,
    ServerDenied,
    ServerError,
    ServerUnavailable,
    ServerUnknown,
)
from linkspan.events import WEBHOOK_ACCEPTED
from linkspan.plain_text import plain_text
from linkspan.prefect_api.server import Server
from linkspan.webhooks.inbox.durable import Batch, Inbox

GATHER_SECONDS = 2.0
THREADS = 4
# How long one call waits by itself for a server that is away; after that it is this file that waits.
PATIENCE = 5.0
FIRST_WAIT = 0.25
LONGEST_WAIT = 15.0
DISK_SECONDS = 30.0
EVENTS_PER_BATCH = 10


class Starter:
    """Starts the runs for what is in an inbox. Use it as a context manager; the inbox must outlive it.

    `server` gives the Prefect server as it is known now and may raise ServerUnavailable or ConfigError, which
    count as a server that is away. `started` is told when a run was stored.
    """

    def __init__(
        self,
        inbox: Inbox,
        server: Callable[[], Server],
        *,
        say: Callable[[str], None] = lambda _line: None,
        started: Callable[[], None] = lambda: None,
        gather: float = GATHER_SECONDS,
    ) -> None:
        self._started = started
        self._inbox = inbox
        self._server = server
        self._say = say
        self._gather = gather
        self._change = threading.Condition()
        self._stopping = False
        self._waiting: dict[str, float] = {}
        """Deployment → when it may be started (monotonic). In the order in which they came."""
        self._busy: set[str] = set()
        self._asked: dict[str, list[Batch]] = {}
        """Batches that were written down, but not answered: before anything new of that deployment."""
        self._not_before: dict[str, float] = {}
        self._tries: dict[str, int] = {}
        self._outage = _Outage(say)
        self._threads = [
            threading.Thread(target=self._work, name=f"starter-{number}", daemon=True)
            for number in range(THREADS)
        ]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin, with what a receiver that was stopped or killed left. Raises InboxUnavailable."""
        for batch in self._inbox.unfinished().result(DISK_SECONDS):
            self._asked.setdefault(batch.deployment, []).append(batch)
        self._inbox.arrived = self.wake
        for thread in self._threads:
            thread.start()
        self.wake({*self._asked, *self._inbox.waiting().result(DISK_SECONDS)})

    def stop(self, seconds: float = 20.0) -> None:
        """Finish the calls that are under way, and begin no other. May be called twice."""
        with self._change:
            self._stopping = True
            self._change.notify_all()
        end = time.monotonic() + seconds
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))

    def wake(self, deployments: set[str]) -> None:
        """There is something new for these."""
        now = time.monotonic()
        with self._change:
            for deployment in deployments:
                self._waiting.setdefault(deployment, max(now, self._not_before.get(deployment, 0.0)))
            self._change.notify_all()

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        with self._change:
            return not (self._waiting or self._busy)

    def _work(self) -> None:
        while (deployment := self._next()) is not None:
            try:
                again = self._serve(deployment)
            except Exception:  # noqa: BLE001 - a thread that ended here would leave hints lying, unseen
                self._say(f"{deployment}: a mistake in Linkspan; trying again\n{traceback.format_exc()}")
                again = LONGEST_WAIT
            self._done(deployment, again)

    def _next(self) -> str | None:
        """The next deployment whose time has come; None at the end."""
        with self._change:
            while not self._stopping:
                now = time.monotonic()
                times = {
                    deployment: max(due, self._outage.until)
                    for deployment, due in self._waiting.items()
                    if deployment not in self._busy
                }
                for deployment, due in times.items():
                    if due <= now:
                        del self._waiting[deployment]
                        self._busy.add(deployment)
                        return deployment
                self._change.wait(min(times.values()) - now if times else None)
            return None

    def _done(self, deployment: str, again: float | None) -> None:
        now = time.monotonic()
        with self._change:
            self._busy.discard(deployment)
            if again is not None:
                due = now + again
                # What came meanwhile waits for this too.
                self._waiting[deployment] = max(due, self._waiting.get(deployment, 0.0))
            for each in [name for name, until in self._not_before.items() if until < now]:
                del self._not_before[each]
            self._change.notify_all()

    def _serve(self, deployment: str) -> float | None:
        """Ask for the next run of a deployment; the seconds after which to look again, None if it is done."""
        asked = self._asked.setdefault(deployment, [])
        again = bool(asked)
        try:
            if not asked:
                batch = self._inbox.take(deployment).result(DISK_SECONDS)
                if batch is None:
                    del self._asked[deployment]
                    return None
                asked.append(batch)
            if not self._ask(asked[0]):
                return self._outage.pause(self._count(deployment))
        except (InboxUnavailable, TimeoutError) as error:
            # If it was the note of a run that was started: that run is asked for again, and is the same.
            self._say(f"{deployment}: {error or 'the disk does not answer'}; trying again")
            return self._outage.pause(self._count(deployment))
        self._tries.pop(deployment, None)
        asked.pop(0)
        if asked:
            return 0.0
        del self._asked[deployment]
        with self._change:
            self._not_before[deployment] = time.monotonic() + self._gather
            # Something came while this run was asked for: it waits with what comes now.
            if deployment in self._waiting:
                self._waiting[deployment] = self._not_before[deployment]
        # While a batch waits to be asked for again, what comes is not put into it: look for that.
        return self._gather if again else None

    def _count(self, deployment: str) -> int:
        self._tries[deployment] = self._tries.get(deployment, 0) + 1
        return self._tries[deployment]

    def _ask(self, batch: Batch) -> bool:
        """Ask for the run of a batch and note the answer; False if there was none."""
        try:
            server = self._server()
            run = server.start(
                batch.deployment, {"hint": batch.text}, idempotency_key=batch.key, patience=PATIENCE
            )
        except (ServerUnavailable, ServerDenied, ServerUnknown) as error:
            # A wrong password or address is mended there or here; the hint is as good afterwards.
            self._outage.began(error, everybody=isinstance(error, ServerDenied) or not self._answers())
            return False
        except (ConfigError, ServerError) as error:
            if not self._answers():
                # A proxy in front of a server that is away says 404 too: that is no refusal of this run.
                self._outage.began(error, everybody=True)
                return False
            self._inbox.failed(batch, str(error)).result(DISK_SECONDS)
            self._say(f"{batch.deployment} was NOT started for {_shown(batch)}: {plain_text(str(error))}")
            return True
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError) as error:
            # No answer of a Prefect server: a page of somebody else's, half of a document.
            reason = ServerUnavailable(f"the answer cannot be understood: {type(error).__name__}: {error}")
            self._outage.began(reason, everybody=not self._answers())
            return False
        if self._outage.over():
            with self._change:  # nobody has to sit out a wait that began while it was away
                self._waiting = dict.fromkeys(self._waiting, time.monotonic())
        self._inbox.started(batch, run).result(DISK_SECONDS)
        self._started()
        known = "" if run.created else " (it was known there already)"
        self._say(f"{batch.deployment} started as {run.name}{known} for {_shown(batch)}: {run.url}")
        self._tell(server, batch, run.url)
        return True

    def _answers(self) -> bool:
        """Whether what is there is a Prefect server that takes our credentials."""
        try:
            return bool(self._server().version())
        except (ServerError, ConfigError, httpx.HTTPError, ValueError):
            return False

    def _tell(self, server: Server, batch: Batch, url: str) -> None:
        try:
            for source, text in self._inbox.texts(batch, EVENTS_PER_BATCH).result(DISK_SECONDS):
                payload = {"hint": text, "deployment": batch.deployment, "run": url, "hints": batch.hints}
                server.emit(WEBHOOK_ACCEPTED, f"linkspan.webhook.{source}", payload, name=source)
        except (ServerError, InboxUnavailable, TimeoutError, httpx.HTTPError, ValueError) as error:
            self._say(f"the feed was not told of {_shown(batch)}: {plain_text(str(error))}")


class _Outage:
    """A server that is away is asked less and less often, and by nobody in between."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._since: float | None = None
        self._failures = 0
        self.until = 0.0

    def began(self, error: Exception, *, everybody: bool) -> None:
        """A call failed. `everybody`: others need not try before `until` either."""
        if not everybody:
            self._say(f"{plain_text(str(error))}; trying again")
            return
        now = time.monotonic()
        with self._lock:
            if now < self.until:
                return  # several calls were under way
            first, self._since = self._since is None, self._since or now
            self._failures += 1
            self.until = now + self.pause(self._failures)
        if first:
            self._say(f"{plain_text(str(error))}. Hints are kept; trying again until it is back")

    def over(self) -> bool:
        """A call succeeded; whether that is news."""
        with self._lock:
            since, self._since = self._since, None
            self._failures, self.until = 0, 0.0
        if since is not None:
            self._say(f"the Prefect server is back after {time.monotonic() - since:.0f} s")
        return since is not None

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures, 16))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing


def _shown(batch: Batch) -> str:
    return plain_text(batch.text)
