"""How often somebody may do something: buckets of tokens, in bounded memory."""

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable


class Buckets:
    """A bucket for each key: it holds `burst` tokens and gains `rate` of them a second.

    Knows at most `most` keys: the one not seen for longest is forgotten, so that its bucket is full again.
    """

    def __init__(
        self, rate: float, burst: float, *, most: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str) -> float:
        """Take a token: 0, or the seconds until there is one, and then nothing was taken."""
        return self._ask(key, 1)

    def wait(self, key: str) -> float:
        """The seconds until there is a token: 0 if there is one now. Takes none."""
        return self._ask(key, 0)

    def _ask(self, key: str, tokens: int) -> float:
        now = self._clock()
        with self._lock:
            level, at = self._levels.pop(key, (self._burst, now))
            level = min(self._burst, level + (now - at) * self._rate)
            enough = level >= 1
            self._levels[key] = (level - tokens if enough else level, now)
            if len(self._levels) > self._most:
                self._levels.popitem(last=False)
        return 0.0 if enough else (1 - level) / self._rate

    def __len__(self) -> int:
        return len(self._levels)


def neighbourhood(address: str) -> str:
    """Who an address is: itself, for IPv6 its /64, of which one customer has all addresses."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
