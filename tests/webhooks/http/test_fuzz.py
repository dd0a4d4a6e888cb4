"""The receiver takes anything. LINKSPAN_FUZZ is how many requests, if not as many as ever."""

import os
import time
from pathlib import Path
from random import randrange

import pytest

from tests.effort import effort
from tests.webhooks.http.fuzz import SAMPLES, fuzz

COUNT = int(os.environ.get("LINKSPAN_FUZZ") or effort(4_000, 20_000))


@pytest.mark.slow
@pytest.mark.timeout(900 + COUNT // 50)
async def test_no_request_breaks_the_receiver(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seed = randrange(10**9)
    caplog.set_level("CRITICAL", logger="linkspan.webhooks")
    begin = time.monotonic()
    outcome = await fuzz(tmp_path, COUNT, seed)
    seconds = time.monotonic() - begin
    first, last = outcome.memory[len(outcome.memory) // 4], outcome.memory[-1]
    print(  # noqa: T201
        f"{COUNT} requests to {len(SAMPLES)} routes in {seconds:.0f} s: "
        f"{dict(sorted(outcome.statuses.items()))}; "
        f"memory {first >> 20} MiB after a quarter, {last >> 20} MiB at the end (seed {seed})"
    )
    assert not outcome.broken
    assert set(outcome.statuses) <= {200, 202, 400, 401, 404, 405, 413, 414}
    # It is no test of the router: many were believed, many were not.
    assert min(outcome.statuses[status] for status in (202, 400, 401)) > COUNT / 50
    assert last - first < 30 << 20
