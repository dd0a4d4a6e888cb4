"""The verdict on one replica, for everything that can be seen of it."""

from typing import Any

import pytest

from linkspan.runtimes.readiness import Observed, Probe, ended, readiness


@pytest.mark.parametrize(
    ("seen", "done", "retriable", "reason"),
    [
        ({"state": "running", "probe": Probe(status=200)}, True, True, ""),
        ({"state": "running", "probe": Probe(status=204)}, True, True, ""),
        ({"state": "running"}, False, True, "r1 runs, but was not asked yet"),
        ({"state": "created"}, False, True, "r1 is created"),
        ({"state": "restarting"}, False, True, "r1 is restarting"),
        (
            {"state": "running", "probe": Probe(status=503, body="\nno model\nmore")},
            False,
            True,
            "r1 answers /readyz with 503: no model",
        ),
        ({"state": "running", "probe": Probe(status=302)}, False, True, "r1 answers /readyz with 302"),
        (
            {"state": "running", "probe": Probe(error="connection refused")},
            False,
            True,
            "r1 does not answer /readyz: connection refused",
        ),
        (
            {"state": "exited", "exit_code": 3, "logs": "a\nb\n\nc\n"},
            False,
            False,
            "r1 exited with code 3: a | b | c",
        ),
        ({"state": "exited", "exit_code": 0}, False, False, "r1 exited with code 0 and said nothing"),
        (
            {"state": "exited", "exit_code": 127, "error": "exec: not found", "logs": "x"},
            False,
            False,
            "r1 exited with code 127: exec: not found",
        ),
        (
            {"state": "exited", "oom_killed": True, "memory": "64 MiB", "logs": "x"},
            False,
            False,
            "r1 ran out of memory and was killed (its limit is 64 MiB)",
        ),
        (
            {"state": "exited", "exit_code": 137, "memory": "64 MiB", "logs": "x"},
            False,
            False,
            "r1 exited with code 137: it was killed, perhaps for memory (its limit is 64 MiB): x",
        ),
        (
            {"state": "exited", "exit_code": 137, "logs": "x"},
            False,
            False,
            "r1 exited with code 137: x",
        ),
        ({"state": "missing"}, False, False, "r1 was removed by somebody else"),
        ({"state": "paused"}, False, False, "r1 was paused by somebody else"),
    ],
)
def test_readiness(*, seen: dict[str, Any], done: bool, retriable: bool, reason: str) -> None:
    assert readiness(Observed(name="r1", **seen), "/readyz") == (done, retriable, reason)


def test_a_long_body_is_cut() -> None:
    verdict = readiness(Observed("r1", "running", probe=Probe(status=500, body="x" * 10_000)), "/readyz")
    assert len(verdict.reason) < 400


def test_nothing_is_claimed_of_output_that_nobody_could_read() -> None:
    assert ended("r1", 3, logs=None) == "r1 exited with code 3"
    assert ended("r1", 3, logs="") == "r1 exited with code 3 and said nothing"
