"""How much a stranger may ask of the receiver. Each number is for one process."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, times in seconds, rates per second.

    GitHub may send 25 MiB (a push of thousands of commits), and what is refused for its size is not sent
    again; all others stay far below 1 MiB. The limit is the same for all routes, because a limit for each
    would tell which names are GitHub's. A few big bodies at a time keep the memory flat.
    """

    body_bytes: int = 25 * MIB
    """Longest body."""
    small_bytes: int = MIB
    """A body above this is big."""
    big_at_once: int = 2
    read_seconds: float = 10.0
    """Longest time a body may take to arrive."""
    url_bytes: int = 4096
    requests_at_once: int = 100
    """More are told to come back (503)."""
    address_at_once: int = 50
    """The same for one client address, so that nobody alone takes all."""
    disk_seconds: float = 5.0
    """Longest wait for the inbox: GitHub hangs up after 10 s."""

    route_rate: float = 100.0
    """Verified requests of a source per second, beyond a burst."""
    route_burst: float = 2000.0
    refused_rate: float = 0.5
    """Refused requests of a client address per second, beyond a burst; then 429."""
    refused_burst: float = 30.0
    refusal_grid: float = 0.05
    """Refusals are answered at multiples of this, so that their time tells nothing."""
