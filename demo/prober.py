"""A client that asks all the time and counts every request that fails: the witness of a rollout.

Two kinds of clients at a fixed rate: one opens a connection for every request, one keeps a single connection
as long as the server does not announce that it closes it. Both are strict: a connection that is found closed
is a failed request, as it is for a client that does not retry.
"""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

Kind = Literal["keep-alive", "new connection"]
VersionOf = Callable[[bytes], str]
"""Names the version that gave this body; raises ValueError for a body that no version gives."""


@dataclass(frozen=True)
class Failure:
    """A request that was not answered as it should have been."""

    at: datetime
    kind: Kind
    what: str

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S.%f} {self.kind}: {self.what}"


@dataclass
class Report:
    """What the prober saw. `versions` are in order of first appearance; times are in seconds."""

    sent: Counter[Kind] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    first_seen: dict[str, datetime] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.sent.values())

    def latency(self, quantile: float) -> float:
        """Seconds; 0.5 is the median, 1.0 the slowest. 0 if nothing was answered."""
        if not self.latencies:
            return 0.0
        return sorted(self.latencies)[min(len(self.latencies) - 1, int(quantile * len(self.latencies)))]

    def summary(self) -> str:
        """The figures in one line."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.sent.items()))
        return (
            f"{self.total} requests ({kinds}), {len(self.failures)} failed, {len(self.versions)} versions, "
            f"{self.latency(0.5) * 1000:.1f} ms median, {self.latency(0.99) * 1000:.0f} ms p99, "
            f"{self.latency(1.0) * 1000:.0f} ms slowest"
        )


class Prober:
    """Asks `url` from `__enter__` to `__exit__`, or from `start` to `stop`."""

    def __init__(
        self,
        url: str,
        version_of: VersionOf,
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        per_second: float = 50.0,
        clients: Mapping[Kind, int] | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        """`per_second` is the rate of each client; `clients` says how many of each kind (one of each)."""
        parts = urlsplit(url)
        self._host = parts.netloc
        self._secure = parts.scheme == "https"
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._version_of = version_of
        self._method = method
        self._body = body
        self._headers = dict(headers or {})
        self._every = 1 / per_second
        self._timeout = timeout_seconds
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._report = Report()
        wanted = clients if clients is not None else {"keep-alive": 1, "new connection": 1}
        self._threads = [
            threading.Thread(target=self._run, args=(kind,), daemon=True, name=f"prober-{kind}-{index}")
            for kind, count in wanted.items()
            for index in range(count)
        ]

    def start(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> Report:
        """End after the requests under way; returns what was seen."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        return self._report

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def report(self) -> Report:
        """What was seen until now; it grows until `stop`."""
        return self._report

    def wait_for(self, version: str, *, seconds: float) -> bool:
        """Wait until an answer of `version` came; False if none did in time."""
        end = time.monotonic() + seconds
        while version not in self._report.first_seen:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def _run(self, kind: Kind) -> None:
        connection = self._connection()
        due = time.monotonic()
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            # A slow answer delays the next request; the lost ones are not made up for in a burst.
            due = max(due + self._every, time.monotonic())
            started = time.monotonic()
            try:
                version = self._ask(connection, kind)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._count(kind, failed=f"{type(error).__name__}: {error}")
                connection.close()
            else:
                self._count(kind, version=version, seconds=time.monotonic() - started)
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, timeout=self._timeout)

    def _ask(self, connection: http.client.HTTPConnection, kind: Kind) -> str:
        extra = {"Connection": "close"} if kind == "new connection" else {}
        # A closed HTTPConnection opens itself again here.
        connection.request(self._method, self._target, body=self._body, headers=self._headers | extra)
        answer = connection.getresponse()
        body = answer.read()
        if kind == "new connection":
            connection.close()
        if answer.status != 200:
            raise ValueError(f"status {answer.status}: {body[:200]!r}")
        return self._version_of(body)

    def _count(self, kind: Kind, *, version: str = "", seconds: float = 0, failed: str = "") -> None:
        now = datetime.now(UTC)
        with self._lock:
            self._report.sent[kind] += 1
            if failed:
                self._report.failures.append(Failure(now, kind, failed))
            else:
                self._report.latencies.append(seconds)
                self._report.versions[version] += 1
                self._report.first_seen.setdefault(version, now)
