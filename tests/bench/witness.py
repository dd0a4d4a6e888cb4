"""Who sees what happens to a release, and when: clients that ask all the time, a watch on the pods."""

import subprocess
import threading
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import NamedTuple, Self

from demo.prober import Kind, Prober, VersionOf
from linkspan.nouns import Release
from tests.e2e.world import World
from tests.services.cluster import RunningCluster


def now() -> datetime:
    return datetime.now(UTC)


class Move(NamedTuple):
    """How traffic went from one release to another: the first answer of the new one, the last of the old."""

    first: datetime
    new_connections: datetime
    keep_alive: datetime


class Witness:
    """Asks the app from start to end with both kinds of clients, and knows when which release answered."""

    def __init__(self, world: World, pair_of: VersionOf) -> None:
        """`pair_of` reads the commit and the model version, with a space between, from the app's /version."""
        url = f"{world.runtime().url(world.service)}/version"
        self._new, self._kept = (_Client(url, kind, pair_of) for kind in ("new connection", "keep-alive"))
        self._clients = (self._new, self._kept)

    def __enter__(self) -> Self:
        for client in self._clients:
            client.prober.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.prober.stop()

    def counted(self) -> tuple[int, int]:
        """Requests until now, and how many of them failed."""
        reports = [client.prober.report for client in self._clients]
        return sum(each.total for each in reports), sum(len(each.failures) for each in reports)

    def moved(self, old: Release, new: Release, since: datetime) -> Move:
        """Wait until the old one has been silent for a second. Raises TimeoutError."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            of_new = [at for client in self._clients for at in client.answers(new, since)]
            last = {client: max(client.answers(old, since), default=since) for client in self._clients}
            if of_new and (now() - max(last.values())).total_seconds() > 1:
                return Move(min(of_new), last[self._new], last[self._kept])
            time.sleep(0.1)
        raise TimeoutError(f"{new.title} does not answer alone after 60 s")


class _Client:
    """One kind of client and all its answers."""

    def __init__(self, url: str, kind: Kind, pair_of: VersionOf) -> None:
        self._pair_of = pair_of
        self.prober = Prober(url, self._seen, clients={kind: 1})
        self._all: list[tuple[datetime, str]] = []

    def answers(self, release: Release, since: datetime) -> list[datetime]:
        pair = f"{release.commit.sha} {release.model.version}"
        return [at for at, seen in list(self._all) if seen == pair and at > since]

    def _seen(self, body: bytes) -> str:
        pair = self._pair_of(body)
        self._all.append((now(), pair))
        return pair


class Crash:
    """Watches a namespace for the first container of a new pod that ends with an exit code."""

    def __init__(self, cluster: RunningCluster, namespace: str, code: int) -> None:
        codes = "".join(f" {{..{state}.terminated.exitCode}}" for state in ("state", "lastState"))
        output = f"jsonpath={{.metadata.name}}{codes}{{'\\n'}}"
        pods = cluster.get(namespace, "pods")["items"]
        self._old = {each["metadata"]["name"] for each in pods}
        self._code = str(code)
        self._first: list[datetime] = []
        self._watch = subprocess.Popen(
            [str(cluster.kubectl), "get", "pods", "--watch-only", "-n", namespace, "-o", output],
            env={"KUBECONFIG": str(cluster.kubeconfig)},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.kill()
        self._watch.wait()
        self._thread.join()

    def seen(self) -> datetime:
        """When it was. Raises TimeoutError if none has ended so."""
        if not self._first:
            raise TimeoutError(f"no new pod's container has ended with exit code {self._code}")
        return self._first[0]

    def _read(self) -> None:
        assert self._watch.stdout
        for line in self._watch.stdout:
            name, *codes = line.split()
            if name not in self._old and self._code in codes:
                self._first.append(now())
