"""The log's view of refused requests: enough to mend a wrong secret, and no flood for whoever sends many."""

import threading
from collections import Counter
from collections.abc import Callable

from linkspan.webhooks.http.rate import Buckets

MOST_KEYS = 1000


class Refusals:
    """Says the first refusals of each kind, counts the rest, and says how many those were.

    `say` gets each line. A kind is whatever the caller calls alike, such as address and route.
    """

    def __init__(self, say: Callable[[str], None], *, burst: float = 5, all_kinds: float = 100) -> None:
        self._say = say
        self._kinds = Buckets(1 / 60, burst, most=MOST_KEYS)
        self._all = Buckets(1.0, all_kinds)
        self._unsaid: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, kind: str, line: str) -> None:
        """One more."""
        if self._kinds.take(kind) or self._all.take(""):
            with self._lock:
                key = kind if kind in self._unsaid or len(self._unsaid) < MOST_KEYS else "others"
                self._unsaid[key] += 1
            return
        self._say(line)

    def flush(self) -> None:
        """Say how many were counted since the last time; the ten most frequent by name."""
        with self._lock:
            unsaid, self._unsaid = self._unsaid, Counter()
        rest = unsaid.total()
        for kind, count in unsaid.most_common(10):
            self._say(f"refused {count} more: {kind}")
            rest -= count
        if rest:
            self._say(f"refused {rest} more, of {len(unsaid) - 10} other kinds")
