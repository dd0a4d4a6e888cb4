"""When the time to become ready begins: not while a node still prepares the pod."""

import pytest

from linkspan.runtimes.kubernetes.readiness import is_preparing, pulls_fail
from tests.runtimes.kube_seen import event, one, rolling, waiting

CREATING = waiting("ContainerCreating")


@pytest.mark.parametrize(
    ("reasons", "preparing"),
    [
        (["Scheduled"], True),
        (["Scheduled", "Pulling"], True),
        (["Scheduled", "FailedMount"], False),
        (["FailedMount", "Pulling"], True),
        ([], False),
    ],
)
def test_a_pod_is_being_prepared_until_its_newest_event_is_trouble(
    reasons: list[str], preparing: bool
) -> None:
    events = [event("app-c", reason, "", at=at) for at, reason in enumerate(reasons, start=1)]
    assert is_preparing(rolling(one(CREATING), events=events), 2) == preparing


def test_others_and_those_that_failed_to_pull_are_not_being_prepared() -> None:
    pulling = [event("app-c", "Pulling", "")]
    assert not is_preparing(rolling(one(CREATING), events=pulling), 1)
    failed = rolling(one(waiting("ErrImagePull")), events=pulling)
    assert not is_preparing(failed, 2)
    assert pulls_fail(failed, 2)
    assert not pulls_fail(failed, 1)
    assert not pulls_fail(rolling(one(CREATING), events=pulling), 2)
