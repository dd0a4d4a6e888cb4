"""The smoke test: run the linked image as a runtime would, and ask it what linkspan.toml says a user asks.

It happens before the image becomes a release. What cannot start, cannot load its model or answers nonsense is
refused here, with the answer in the error and the app's output in the log, and no user ever sees it. The app
may see that it is only tried: LINKSPAN_TRIAL is in its environment.
"""

import time
from typing import Any

import httpx

from linkspan.config import SmokeSection
from linkspan.errors import SmokeFailed
from linkspan.nouns import Noun
from linkspan.progress import Say
from linkspan.registry.client import Registry
from linkspan.release.plan import Candidate
from linkspan.release.steps import Refused, refuse, rollout_of
from linkspan.runtimes.asking import CannotAsk
from linkspan.runtimes.base import Later, Rollout, Runtime, Trial, at_once
from linkspan.runtimes.readiness import one_line

_POLL_SECONDS = 0.05
_BODY = 500


class SmokeResult(Noun):
    """A passed smoke test. Times in seconds: from the container's start until ready, of the request alone."""

    status: int
    seconds_to_ready: float
    seconds_to_answer: float


def smoke(
    runtime: Runtime, rollout: Rollout, wanted: SmokeSection, *, say: Say, later: Later = at_once
) -> SmokeResult:
    """Start one replica apart from its service, wait until it is ready, send `wanted`, compare.

    Raises SmokeFailed with the cause, and the errors of Runtime.trial.
    """
    with runtime.trial(rollout, say=say, later=later) as running:
        started = time.monotonic()
        say(f"smoke test: waiting until {rollout.ready_path} answers 200")
        _wait_ready(running, rollout, say)
        ready = time.monotonic()
        say(f"smoke test: ready after {ready - started:.1f} s; {_request_line(wanted)}")
        status = _ask(running, wanted, say)
        answered = time.monotonic()
    return SmokeResult(
        status=status,
        seconds_to_ready=round(ready - started, 3),
        seconds_to_answer=round(answered - ready, 3),
    )


def smoke_test(
    registry: Registry,
    runtime: Runtime,
    candidate: Candidate,
    environment: str,
    *,
    say: Say,
    refused: Refused,
    later: Later = at_once,
) -> SmokeResult:
    """`smoke` of a candidate, as it would run in an environment. Remembers that it failed."""
    try:
        asked = rollout_of(candidate, environment)
        return smoke(runtime, asked, candidate.config.smoke, say=say, later=later)
    except SmokeFailed as error:
        refuse(registry, candidate.release, environment, error, refused, say=say)
        raise


def _wait_ready(running: Trial, rollout: Rollout, say: Say) -> None:
    end = time.monotonic() + rollout.ready_seconds
    while True:
        try:
            verdict = running.verdict(rollout.ready_path)
        except CannotAsk:
            if time.monotonic() > end:
                raise  # nobody knows whether it is ready
        else:
            if verdict.done:
                return
            late = time.monotonic() > end
            if late or not verdict.retriable:
                when = f"was not ready after {rollout.ready_seconds:g} s" if late else "did not become ready"
                raise SmokeFailed(
                    f"{rollout.service.app} {when} in its smoke test",
                    found=verdict.reason,
                    fix=_with_log("Run the image by hand to see more", running, say),
                )
        time.sleep(_POLL_SECONDS)


def _ask(running: Trial, wanted: SmokeSection, say: Say) -> int:
    try:
        answer = running.ask(
            wanted.method, wanted.path, json=wanted.json_body, seconds=wanted.timeout_seconds
        )
    except httpx.TimeoutException:
        raise SmokeFailed(
            f"the smoke request {_request_line(wanted)} was not answered",
            expected=f"a whole answer within {wanted.timeout_seconds:g} s",
            fix=_with_log("Raise smoke.timeout_seconds if it may take longer", running, say),
        ) from None
    except httpx.HTTPError as error:
        raise SmokeFailed(
            f"the smoke request {_request_line(wanted)} got no answer",
            found=str(error) or type(error).__name__,
            fix=_with_log("The app may have crashed on it", running, say),
        ) from None
    difference = unlike(answer, wanted)
    if difference:
        raise SmokeFailed(
            f"the smoke request {_request_line(wanted)} got the wrong answer: {difference}",
            expected=f"status {wanted.expect_status}"
            + (f" and {wanted.expect_json}" if wanted.expect_json is not None else ""),
            found=f"status {answer.status_code} and {answer.text[:_BODY]}",
            fix=_with_log("Mend the app or the model, or the [smoke] section of linkspan.toml", running, say),
        )
    return answer.status_code


def unlike(answer: httpx.Response, wanted: SmokeSection) -> str:
    """The first way in which an answer is not as wanted; empty if there is none."""
    if answer.status_code != wanted.expect_status:
        return f"status {answer.status_code}"
    if wanted.expect_json is None:
        return ""
    try:
        found = answer.json()
    except ValueError:
        return "it is not JSON"
    return missing(found, wanted.expect_json)


def missing(found: Any, wanted: Any, where: str = "$") -> str:
    """The first part of `wanted` that the JSON value `found` does not contain; empty if it has all.

    Objects may have further keys, at every depth. Lists are compared item by item and have one length.
    """
    if isinstance(wanted, dict):
        return _missing_in_object(found, wanted, where)
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return f"{where} is no list of {len(wanted)}"
        pairs = enumerate(zip(found, wanted, strict=True))
        return next((said for i, pair in pairs if (said := missing(*pair, f"{where}[{i}]"))), "")
    # In Python True is 1; in JSON it is not.
    if isinstance(found, bool) is not isinstance(wanted, bool) or found != wanted:
        return f"{where} is {one_line(repr(found), 100)}, not {wanted!r}"
    return ""


def _missing_in_object(found: Any, wanted: dict[str, Any], where: str) -> str:
    if not isinstance(found, dict):
        return f"{where} is no object"
    for key, value in wanted.items():
        if key not in found:
            return f"{where}.{key} is missing"
        if difference := missing(found[key], value, f"{where}.{key}"):
            return difference
    return ""


def _request_line(wanted: SmokeSection) -> str:
    return f"{wanted.method} {wanted.path}"


def _with_log(fix: str, running: Trial, say: Say) -> str:
    """`fix`, and where the log is: not all of it in the error, which all can read who may pull."""
    if log := running.log():
        say(f"the app's last output:\n{log}")
        return f"{fix}. The app's last output is in the log of this run"
    return f"{fix}. The app printed nothing"
