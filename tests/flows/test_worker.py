"""The worker looks for runs when it is told of one, not only when its time has come."""

from pathlib import Path
from uuid import uuid4

import pytest

from linkspan.local.wake import WAKE, wake
from tests.services.prefect_server import PrefectServer
from tests.waiting import until

pytestmark = pytest.mark.slow


def test_who_starts_a_run_need_not_wait_for_the_worker_to_look(
    worker_server: PrefectServer, tmp_path: Path
) -> None:
    folder = tmp_path / "workers"
    told = {WAKE: str(folder)}
    # Its only look by itself is the one that it begins with.
    env = {"PREFECT_WORKER_QUERY_SECONDS": "86400", **told}

    def listening() -> int:
        return len(list(folder.iterdir())) if folder.exists() else 0

    with worker_server.worker(**env), worker_server.api() as server:
        until(lambda: listening() == 1, what="the worker listens")
        with worker_server.worker(**env):
            until(lambda: listening() == 2, what="another one listens")
        assert listening() == 1  # its end is nothing to the first
        (tmp_path / "go").touch()
        for number in range(2):
            # Nothing that a clock starts too: the other worker would take such a run with it, and its queue's
            # only slot.
            run = server.start("test-wait/test", {"folder": str(tmp_path)}, idempotency_key=uuid4().hex)

            def ended(run_id: str = run.id) -> bool:
                wake(told)  # more than once: the server may be too busy for the look
                return server.run(run_id).final

            until(ended, what=f"run {number + 1} has ended")
            assert server.run(run.id).state_type == "COMPLETED"
