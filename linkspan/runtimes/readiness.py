"""Whether a replica is ready, as a function of what was seen of it, so that a wait that fails can say why.

The shape is flagger's: (done, retriable, reason). Nothing here does I/O.
"""

from dataclasses import dataclass
from typing import NamedTuple

from linkspan.processes import KILLED

LOG_LINES = 5
"""Lines of a dead container's output that are worth a place in an error."""


@dataclass(frozen=True)
class Probe:
    """The answer to a readiness request; `error` instead of a status if there was none."""

    status: int = 0
    body: str = ""
    error: str = ""


@dataclass(frozen=True)
class Observed:
    """What the engine and a probe say of one container.

    `state` is the engine's word (created, running, exited, …) or missing. `probe` is None when
    it was not asked. `logs` is filled for a container that ended.
    """

    name: str
    state: str
    exit_code: int = 0
    oom_killed: bool = False
    memory: str = ""
    error: str = ""
    logs: str = ""
    probe: Probe | None = None


class Readiness(NamedTuple):
    """`done` means ready. If not, `retriable` says whether waiting can help; `reason` is one line."""

    done: bool
    retriable: bool
    reason: str


def readiness(seen: Observed, ready_path: str) -> Readiness:
    """The verdict on one container."""
    if seen.state in {"exited", "dead", "removing", "missing", "paused"}:
        return Readiness(done=False, retriable=False, reason=_ended(seen))
    if seen.state != "running":
        return Readiness(done=False, retriable=True, reason=f"{seen.name} is {seen.state}")
    probe = seen.probe
    if probe is None:
        return Readiness(done=False, retriable=True, reason=f"{seen.name} runs, but was not asked yet")
    if probe.error:
        return Readiness(False, True, f"{seen.name} does not answer {ready_path}: {one_line(probe.error)}")
    if 200 <= probe.status < 300:
        return Readiness(done=True, retriable=True, reason="")
    said = one_line(probe.body)
    reason = f"{seen.name} answers {ready_path} with {probe.status}" + (f": {said}" if said else "")
    return Readiness(done=False, retriable=True, reason=reason)


def _ended(seen: Observed) -> str:
    if seen.state in {"missing", "removing"}:
        return f"{seen.name} was removed by somebody else"
    if seen.state == "paused":
        return f"{seen.name} was paused by somebody else"
    return ended(
        seen.name,
        seen.exit_code,
        oom_killed=seen.oom_killed,
        memory=seen.memory,
        error=seen.error,
        logs=seen.logs,
    )


def ended(
    name: str,
    exit_code: int,
    *,
    oom_killed: bool = False,
    memory: str = "",
    error: str = "",
    logs: str | None = "",
) -> str:
    """How `name`'s process ended and what it said last, in one line.

    `error` is the engine's own word. `logs` is None when nobody could read them.
    """
    limit = f" (its limit is {memory})" if memory else ""
    if oom_killed:
        return f"{name} ran out of memory and was killed{limit}"
    reason = f"{name} exited with code {exit_code}"
    if exit_code == KILLED and memory:
        # Engines hear of the kernel's reason by another way than of the end, and at times never.
        reason += f": it was killed, perhaps for memory{limit}"
    if error:
        return f"{reason}: {one_line(error)}"
    if logs is None:
        return reason
    lines = [line.strip() for line in logs.splitlines() if line.strip()][-LOG_LINES:]
    return f"{reason}: " + " | ".join(lines) if lines else f"{reason} and said nothing"


def one_line(text: str, limit: int = 300) -> str:
    """The first line of `text` that says something, cut to `limit` characters."""
    return next((line.strip()[:limit] for line in text.splitlines() if line.strip()), "")
