"""How long a rollout waits for what often passes, by a clock that only its waiting moves."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from linkspan.errors import RuntimeUnavailable
from linkspan.runtimes.kubernetes import rollout
from linkspan.runtimes.kubernetes.readiness import Observed
from linkspan.runtimes.kubernetes.rollout import KubeRollout
from tests.runtimes.kube_seen import RUNNING, one, rolling

AWAY = 'Internal error occurred: failed calling webhook "w.example": connection refused'
Looks = Callable[[float], Observed]
"""How the cluster looks so many seconds after the rollout began."""
Waited = Callable[[Looks], float]
"""After how many of the 600 s that it has a rollout is given up."""
HEALTHY, REFUSED = rolling(one(RUNNING)), rolling(refused=AWAY)


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> Waited:
    def wait(looks: Looks) -> float:
        clock = SimpleNamespace(now=100.0)
        clock.monotonic = lambda: clock.now
        clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
        monkeypatch.setattr(rollout, "time", clock)
        mine: Any = SimpleNamespace(observe=lambda *_: looks(clock.now - 100))
        asked: Any = None
        of: Any = SimpleNamespace(objects=(), revision=SimpleNamespace(number=2))
        found = KubeRollout(asked, mine, None, lambda _: None)._wait(of, 600)
        assert not found.done
        return float(clock.now) - 100

    return wait


@pytest.mark.parametrize("begins", [0, 60, 300])
def test_what_passes_has_its_time_from_when_it_was_seen(waited: Waited, begins: float) -> None:
    after = waited(lambda at: REFUSED if at >= begins else HEALTHY)
    assert begins + 30 <= after <= begins + 31


def test_what_has_passed_is_no_refusal(waited: Waited) -> None:
    assert waited(lambda at: REFUSED if 60 <= at < 80 else HEALTHY) > 600


def test_a_cluster_that_comes_back_has_all_of_the_time_again(
    waited: Waited,
) -> None:
    def looks(at: float) -> Observed:
        if 20 <= at < 60:
            raise RuntimeUnavailable("the cluster cannot be reached")
        return REFUSED

    assert 90 <= waited(looks) <= 91
